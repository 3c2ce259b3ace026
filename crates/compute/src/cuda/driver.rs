//! The driver: a GPU's context and stream, memory, and what is launched. Setting up may fail and says why;
//! once a device works, a call that fails (a GPU that fell off the bus, an illegal access) leaves nothing to
//! go on with, and panics.

use crate::{Error, Result};
use cudarc::driver::sys;
use std::ffi::{CStr, c_void};
use std::ptr::null_mut;
use sys::CUdevice_attribute_enum as Attribute;

/// Names a driver's error as its own documentation does.
pub fn describe(code: sys::CUresult) -> String {
    let mut text = std::ptr::null();
    // SAFETY: the driver writes a pointer to a string of its own, or leaves null.
    let text = unsafe {
        sys::cuGetErrorString(code, &mut text);
        if text.is_null() { "unknown" } else { CStr::from_ptr(text).to_str().unwrap_or("unknown") }
    };
    format!("{code:?}: {text}")
}

/// Panics where a call of a working device failed.
pub fn expect(what: &str, code: sys::CUresult) {
    assert!(code == sys::CUresult::CUDA_SUCCESS, "the GPU failed in {what}: {}", describe(code));
}

fn set_up(call: &'static str, code: sys::CUresult) -> Result<()> {
    match code {
        sys::CUresult::CUDA_SUCCESS => Ok(()),
        code => Err(Error::Call { library: "the GPU", call, status: describe(code) }),
    }
}

/// A GPU that this thread works on, with one stream that everything is put into.
#[derive(Debug)]
pub struct Driver {
    /// Where work is enqueued.
    pub stream: sys::CUstream,
    /// The product's name.
    pub name: String,
    /// Compute capability.
    pub capability: (u32, u32),
    /// Whether the driver tells a captured stream's last node: CUDA 12.3 and later.
    pub tells_nodes: bool,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
}

impl Driver {
    /// Takes a GPU by its number, as `CUDA_VISIBLE_DEVICES` leaves them to this process. The library must
    /// have been found.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn open(index: u32) -> Result<Driver> {
        // SAFETY: signatures are the headers'; pointers live through their calls; each result is checked.
        unsafe {
            set_up("cuInit", sys::cuInit(0))?;
            let mut device = 0;
            set_up("cuDeviceGet", sys::cuDeviceGet(&mut device, index as i32))?;
            let mut context = null_mut();
            set_up("cuDevicePrimaryCtxRetain", sys::cuDevicePrimaryCtxRetain(&mut context, device))?;
            set_up("cuCtxSetCurrent", sys::cuCtxSetCurrent(context))?;
            let mut stream = null_mut();
            const NON_BLOCKING: u32 = 1;
            set_up("cuStreamCreate", sys::cuStreamCreate(&mut stream, NON_BLOCKING))?;
            let mut name = [0; 256];
            set_up("cuDeviceGetName", sys::cuDeviceGetName(name.as_mut_ptr(), 255, device))?;
            let attribute = |which| {
                let mut value = 0;
                set_up("cuDeviceGetAttribute", sys::cuDeviceGetAttribute(&mut value, which, device))
                    .map(|()| value as u32)
            };
            let mut version = 0;
            set_up("cuDriverGetVersion", sys::cuDriverGetVersion(&mut version))?;
            Ok(Driver {
                stream,
                name: CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned(),
                capability: (
                    attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                    attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
                ),
                tells_nodes: version >= 12_030,
                multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            })
        }
    }

    /// Memory that is free now, in bytes.
    pub fn free_bytes(&self) -> usize {
        let (mut free, mut total) = (0, 0);
        // SAFETY: as in `open`.
        expect("cuMemGetInfo", unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) });
        free
    }

    /// Waits for all that was enqueued, whatever came of it.
    pub fn settle(&self) {
        // SAFETY: the stream lives as long as self.
        unsafe { sys::cuStreamSynchronize(self.stream) };
    }

    /// Waits for all that was enqueued.
    pub fn synchronize(&self) {
        // SAFETY: the stream lives as long as self.
        expect("a kernel", unsafe { sys::cuStreamSynchronize(self.stream) });
    }

    /// Enqueues a copy from the host. The memory must not change before the stream has passed it.
    ///
    /// # Safety
    /// `to` must have room for `bytes`, and they must stay where they are until then.
    pub unsafe fn copy_in(&self, to: u64, from: *const u8, bytes: usize) {
        // SAFETY: the caller's promise.
        expect("an upload", unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.cast(), bytes, self.stream) });
    }

    /// Copies to the host once all before is done, and waits for it.
    ///
    /// # Safety
    /// `from` must hold as many bytes as `to` has.
    pub unsafe fn copy_out(&self, from: u64, to: &mut [u8]) {
        // SAFETY: the caller's promise; the slice is borrowed until the wait is over.
        let copied =
            unsafe { sys::cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from, to.len(), self.stream) };
        expect("a download", copied);
        self.synchronize();
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The context stays: to make it anew takes a third of a second, and cuBLASLt keeps things in it.
        // SAFETY: what `open` made; whoever enqueued waits before. There is nobody to tell a failure to.
        unsafe { sys::cuStreamDestroy_v2(self.stream) };
    }
}

/// Memory of the GPU.
#[derive(Debug)]
pub struct Memory {
    /// Where it begins; 0 when there is none.
    pub address: u64,
    /// Its size.
    pub bytes: usize,
}

impl Memory {
    /// No memory.
    pub const NONE: Memory = Memory { address: 0, bytes: 0 };

    /// Takes memory, not cleared.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new(driver: &Driver, bytes: usize) -> Result<Memory> {
        let mut address = 0;
        // SAFETY: as in `Driver::open`.
        match unsafe { sys::cuMemAlloc_v2(&mut address, bytes.max(1)) } {
            sys::CUresult::CUDA_SUCCESS => Ok(Memory { address, bytes }),
            _ => Err(Error::OutOfMemory {
                needed_bytes: bytes,
                device: format!("{} ({} bytes free)", driver.name, driver.free_bytes()),
            }),
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.address != 0 {
            // SAFETY: allocated by `new` and freed once; the driver waits for what uses it.
            unsafe { sys::cuMemFree_v2(self.address) };
        }
    }
}

/// Host memory that uploads are staged in, so that the caller's may change at once: two halves, filled in
/// turn, and neither is filled again before the GPU has read it.
#[derive(Debug)]
pub struct Staging {
    memory: *mut u8,
    events: [sys::CUevent; 2],
    waiting: [bool; 2],
    half: usize,
    used: usize,
}

const HALF_BYTES: usize = 8 << 20;

impl Staging {
    /// Takes the memory.
    ///
    /// # Errors
    /// When the driver has none.
    pub fn new() -> Result<Staging> {
        let mut memory = null_mut::<c_void>();
        let mut events = [null_mut(); 2];
        // SAFETY: as in `Driver::open`.
        unsafe {
            set_up("cuMemHostAlloc", sys::cuMemHostAlloc(&mut memory, 2 * HALF_BYTES, 0))?;
            const WITHOUT_TIMES: u32 = 2;
            for event in &mut events {
                set_up("cuEventCreate", sys::cuEventCreate(event, WITHOUT_TIMES))?;
            }
        }
        Ok(Staging { memory: memory.cast(), events, waiting: [false; 2], half: 0, used: 0 })
    }

    /// Enqueues a copy of `bytes`.
    ///
    /// # Safety
    /// `to` must have room for them.
    pub unsafe fn upload(&mut self, driver: &Driver, to: u64, bytes: &[u8]) {
        let mut at = to;
        for part in bytes.chunks(HALF_BYTES) {
            if self.used + part.len() > HALF_BYTES {
                self.turn(driver);
            }
            // SAFETY: the half has room, and `turn` waited for the GPU to have read what was there; the
            // caller's promise.
            unsafe {
                let from = self.memory.add(self.half * HALF_BYTES + self.used);
                std::ptr::copy_nonoverlapping(part.as_ptr(), from, part.len());
                driver.copy_in(at, from, part.len());
            }
            self.used += part.len().next_multiple_of(64);
            at += part.len() as u64;
        }
    }

    fn turn(&mut self, driver: &Driver) {
        // SAFETY: events and stream are alive.
        unsafe {
            expect("cuEventRecord", sys::cuEventRecord(self.events[self.half], driver.stream));
            self.waiting[self.half] = true;
            self.half = 1 - self.half;
            if std::mem::take(&mut self.waiting[self.half]) {
                expect("an upload", sys::cuEventSynchronize(self.events[self.half]));
            }
        }
        self.used = 0;
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // SAFETY: what `new` made; the device waits for its stream before this goes.
        unsafe {
            for event in self.events {
                sys::cuEventDestroy_v2(event);
            }
            sys::cuMemFreeHost(self.memory.cast());
        }
    }
}
