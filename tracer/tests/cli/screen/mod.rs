//! The screen: what it shows of recordings, and how it behaves in a real terminal.

mod terminal;
mod views;
