//! Values that come from documents, and documents that come from values, also random ones.

use super::*;
