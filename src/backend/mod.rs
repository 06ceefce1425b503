//! Where keys come from: one file or folder a backend.
