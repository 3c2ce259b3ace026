//! The kernel suite, run against every device, and the specification's own gradients against central differences.

mod cases;
mod cpu;
mod gradients;
