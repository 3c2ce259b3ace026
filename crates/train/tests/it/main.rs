//! The loop over a real model and real token shards; the run's folder is in memory where disks must fail.

#![allow(clippy::unwrap_used)]

mod average;
mod dropout;
mod loop_;
mod plateau;
mod resume;
mod spike;
mod support;
mod trouble;
