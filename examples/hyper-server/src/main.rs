//! A hyper server.
fn main() {}
