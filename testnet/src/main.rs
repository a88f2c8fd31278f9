//! testnet
fn main() {}
