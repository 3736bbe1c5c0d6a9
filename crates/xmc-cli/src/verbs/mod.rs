//! One file per verb.

pub(crate) mod add_labels;
pub(crate) mod augment;
pub(crate) mod embed;
pub(crate) mod ensemble;
pub(crate) mod evaluate;
pub(crate) mod explain;
pub(crate) mod help_config;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod predict;
pub(crate) mod quickstart;
pub(crate) mod sample;
pub(crate) mod similar;
pub(crate) mod train;
