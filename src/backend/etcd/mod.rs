//! etcd over its JSON gateway.
