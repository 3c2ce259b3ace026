//! Plumbing over hyper: what any server of this program needs, whatever it serves.

pub mod body;
pub mod guard;
pub mod listen;
pub mod stall;
pub mod target;
