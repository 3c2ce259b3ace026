//! The loop over a real model and real token shards; the run's folder is in memory where disks must fail.

mod loop_;
mod resume;
mod support;
mod trouble;
