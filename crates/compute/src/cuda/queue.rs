//! What was asked of the GPU since it was last waited for, and its replay as a graph.
//!
//! Calls are collected, and go to the driver when something is uploaded, downloaded or waited for: for
//! training once a micro-batch, for decoding once a token. A sequence that comes a second time is captured as
//! a CUDA graph, and from then on launched as one; kernels whose arguments differ from the last time (a
//! learning rate, a seed) have them replaced. So nobody has to say what a graph is, and a sequence that never
//! repeats is simply launched.

use super::driver::{Driver, expect};
use super::products::Product;
use cudarc::driver::sys;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::ptr::null_mut;

/// A kernel's launch. Its one parameter is a struct by value.
#[derive(Clone, Debug)]
pub struct Launch {
    pub function: sys::CUfunction,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
    pub arguments: Vec<u8>,
}

/// Something that the GPU is to do.
#[derive(Clone, Debug)]
pub enum Command {
    Launch(Launch),
    Product(Product),
    /// Sets bytes to zero.
    Clear {
        address: u64,
        bytes: usize,
    },
}

impl Command {
    /// All but the arguments that a graph can have replaced.
    fn shape<H: Hasher>(&self, state: &mut H) {
        match self {
            Command::Launch(launch) => {
                (0, launch.function as usize, launch.grid, launch.block, launch.shared_bytes).hash(state);
            }
            Command::Product(product) => (1, product).hash(state),
            Command::Clear { address, bytes } => (2, address, bytes).hash(state),
        }
    }

    fn is_like(&self, other: &Command) -> bool {
        match (self, other) {
            (Command::Launch(a), Command::Launch(b)) => {
                (a.function, a.grid, a.block, a.shared_bytes, a.arguments.len())
                    == (b.function, b.grid, b.block, b.shared_bytes, b.arguments.len())
            }
            (Command::Product(a), Command::Product(b)) => a == b,
            (Command::Clear { address: a, bytes: m }, Command::Clear { address: b, bytes: n }) => {
                (a, m) == (b, n)
            }
            _ => false,
        }
    }
}

/// A captured sequence.
#[derive(Debug)]
struct Graph {
    executable: sys::CUgraphExec,
    /// What it was made of; the nodes are its, and go with it.
    graph: sys::CUgraph,
    /// As it was launched last.
    works: Vec<Command>,
    /// The graph's node of each launch.
    nodes: Vec<Option<sys::CUgraphNode>>,
    used: u64,
}

/// Fewer calls than this are not worth a graph.
const WORTHWHILE: usize = 8;
/// Graphs that are kept; the one that was not used for longest goes.
const KEPT: usize = 32;

/// The sequence being collected, and the graphs of those seen before.
#[derive(Debug, Default)]
pub struct Queue {
    works: Vec<Command>,
    graphs: HashMap<u64, Graph>,
    /// Sequences that came once.
    seen: HashMap<u64, u32>,
    flushes: u64,
}

impl Queue {
    /// Adds something to do after all before it.
    pub fn push(&mut self, work: Command) {
        self.works.push(work);
    }

    /// Gives what was collected to the driver.
    pub fn flush(&mut self, driver: &Driver) {
        if self.works.is_empty() {
            return;
        }
        self.flushes += 1;
        let works = std::mem::take(&mut self.works);
        if works.len() < WORTHWHILE || !driver.tells_nodes {
            return enqueue_all(driver, &works);
        }
        let mut hasher = DefaultHasher::new();
        works.iter().for_each(|work| work.shape(&mut hasher));
        let key = hasher.finish();
        if let Some(graph) = self.graphs.get_mut(&key) {
            let alike = |(a, b): (&Command, &Command)| a.is_like(b);
            if graph.works.len() == works.len() && graph.works.iter().zip(&works).all(alike) {
                graph.used = self.flushes;
                return graph.launch(driver, works);
            }
            return enqueue_all(driver, &works);
        }
        if self.seen.remove(&key).is_none() {
            if self.seen.len() >= 16 * KEPT {
                self.seen.clear();
            }
            self.seen.insert(key, 1);
            return enqueue_all(driver, &works);
        }
        if self.graphs.len() >= KEPT
            && let Some((&oldest, _)) = self.graphs.iter().min_by_key(|(_, graph)| graph.used)
        {
            self.graphs.remove(&oldest);
        }
        let graph = Graph::capture(driver, works, self.flushes);
        graph.start(driver);
        self.graphs.insert(key, graph);
    }

    /// Forgets the graphs, and what was not flushed: memory that they name is about to go.
    pub fn forget(&mut self) {
        self.works.clear();
        self.graphs.clear();
        self.seen.clear();
    }

    /// Sequences that are launched as graphs.
    pub fn graphs(&self) -> usize {
        self.graphs.len()
    }
}

impl Graph {
    fn capture(driver: &Driver, works: Vec<Command>, used: u64) -> Graph {
        let mut nodes = Vec::with_capacity(works.len());
        let (mut graph, mut executable) = (null_mut(), null_mut());
        // SAFETY: the stream is alive and ours alone; pointers live through their calls.
        unsafe {
            let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            expect("cuStreamBeginCapture", sys::cuStreamBeginCapture_v2(driver.stream, mode));
            for work in &works {
                enqueue(driver, work);
                nodes.push(matches!(work, Command::Launch(_)).then(|| last_node(driver)));
            }
            expect("cuStreamEndCapture", sys::cuStreamEndCapture(driver.stream, &mut graph));
            expect("cuGraphInstantiate", sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0));
        }
        Graph { executable, graph, works, nodes, used }
    }

    fn launch(&mut self, driver: &Driver, works: Vec<Command>) {
        for ((before, now), node) in self.works.iter().zip(&works).zip(&self.nodes) {
            if let (Command::Launch(before), Command::Launch(now), Some(node)) = (before, now, node)
                && before.arguments != now.arguments
            {
                self.replace(*node, now);
            }
        }
        self.works = works;
        self.start(driver);
    }

    fn replace(&self, node: sys::CUgraphNode, launch: &Launch) {
        let mut parameters = [launch.arguments.as_ptr().cast_mut().cast()];
        let [x, y, z] = launch.grid;
        let [block_x, block_y, block_z] = launch.block;
        let parameters = sys::CUDA_KERNEL_NODE_PARAMS_v2_st {
            func: launch.function,
            gridDimX: x,
            gridDimY: y,
            gridDimZ: z,
            blockDimX: block_x,
            blockDimY: block_y,
            blockDimZ: block_z,
            sharedMemBytes: launch.shared_bytes,
            kernelParams: parameters.as_mut_ptr(),
            extra: null_mut(),
            kern: null_mut(),
            ctx: null_mut(),
        };
        // SAFETY: the node is of this graph, its function is the same, and the driver copies the arguments at
        // once.
        let replaced = unsafe { sys::cuGraphExecKernelNodeSetParams_v2(self.executable, node, &parameters) };
        expect("cuGraphExecKernelNodeSetParams", replaced);
    }

    fn start(&self, driver: &Driver) {
        // SAFETY: both are alive; what the graph names lives until `forget`.
        expect("cuGraphLaunch", unsafe { sys::cuGraphLaunch(self.executable, driver.stream) });
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by `capture`, destroyed once; the driver waits for a launch under way.
        unsafe {
            sys::cuGraphExecDestroy(self.executable);
            sys::cuGraphDestroy(self.graph);
        }
    }
}

/// The node that the stream's next one will depend on: the one captured last.
fn last_node(driver: &Driver) -> sys::CUgraphNode {
    let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
    let (mut nodes, mut count) = (std::ptr::null(), 0);
    // SAFETY: null where an answer is not wanted; the array lives until the stream's next call, and is read
    // at once.
    unsafe {
        let told = sys::cuStreamGetCaptureInfo_v3(
            driver.stream,
            &mut status,
            null_mut(),
            null_mut(),
            &mut nodes,
            null_mut(),
            &mut count,
        );
        expect("cuStreamGetCaptureInfo", told);
        assert!(count == 1, "{count} nodes are last in a stream that was captured alone");
        *nodes
    }
}

fn enqueue_all(driver: &Driver, works: &[Command]) {
    works.iter().for_each(|work| enqueue(driver, work));
}

fn enqueue(driver: &Driver, work: &Command) {
    match work {
        Command::Launch(launch) => {
            let mut parameters = [launch.arguments.as_ptr().cast_mut().cast()];
            let [x, y, z] = launch.grid;
            let [block_x, block_y, block_z] = launch.block;
            // SAFETY: the argument is the struct that the kernel takes (the suite holds that), and is copied
            // at once.
            let launched = unsafe {
                sys::cuLaunchKernel(
                    launch.function,
                    x,
                    y,
                    z,
                    block_x,
                    block_y,
                    block_z,
                    launch.shared_bytes,
                    driver.stream,
                    parameters.as_mut_ptr(),
                    null_mut(),
                )
            };
            expect("a launch", launched);
        }
        Command::Product(product) => product.enqueue(driver),
        Command::Clear { address, bytes } => {
            // SAFETY: whoever asked owns the memory.
            expect("a clear", unsafe { sys::cuMemsetD8Async(*address, 0, *bytes, driver.stream) });
        }
    }
}
