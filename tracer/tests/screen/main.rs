//! The screen: what it shows of recordings made by hand, and how it behaves in a real terminal.

#[path = "../approved/mod.rs"]
mod approved;
mod stills;
#[path = "../tape/mod.rs"]
mod tape;
mod terminal;
#[path = "../wire/mod.rs"]
mod wire;
