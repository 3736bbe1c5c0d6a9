//! What a user sees of every verb, on data of a few rows.

mod damage;
mod evaluate;
mod import;
mod inspect;
mod predict;
mod quickstart;
mod resume;
mod train;
mod usage;
mod world;
