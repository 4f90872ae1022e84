//! The screen: its views of recordings, and its behavior in a real terminal.

mod terminal;
mod views;
