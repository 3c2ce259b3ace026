//! HTTP infrastructure over hyper, for any server of this program.

pub mod body;
pub mod guard;
pub mod listen;
pub mod stall;
pub mod target;
