//! `top`: a pure model of what is known, a pure view of it, and the terminal that it is drawn on.

mod clock;
mod cursor;
mod keys;
mod model;
mod plain;
mod screen;
mod traffic;
mod update;
mod view;

#[cfg(test)]
mod tests;

pub(crate) use model::{Client, Command, Copied, Happened, Model};
pub(crate) use plain::Plain;
pub(crate) use screen::Screen;
