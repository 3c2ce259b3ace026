// Fibers: a stack and a saved stack pointer each, changed by a dozen instructions. The scheduler lets every
// thread of a block run until it waits at a barrier, for the lanes of its warp, or ends; who completes a
// meeting releases the others. When nobody can run and somebody waits, that is a deadlock, and the process
// ends with the list of who waits where. EMULATED_ORDER=seed shuffles threads at every turn, and blocks, so
// that results which hang on an order differ from run to run.

#include "fibers.h"
#include "memory.h"
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <sys/mman.h>

// void emulator_switch(void** save, void* load): keeps the registers that a callee must keep, and changes
// stacks.
asm(R"(
.text
.hidden emulator_switch
.globl emulator_switch
.type emulator_switch, @function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
extern "C" void emulator_switch(void** save, void* load);

namespace emulator {
namespace {

constexpr std::size_t page = 4096, stack_bytes = 256 * 1024;
constexpr unsigned max_threads = 1024;

enum class State { Runnable, AtBarrier, InCollective, Ended };

struct Copy {
    char* to;
    const void* from; // null: zeros
};

struct Fiber {
    void* stack_pointer;
    Triple index;
    unsigned lane, warp;
    State state;
    const Collective* collective;
    unsigned mask;
    void* operand;
    std::vector<Copy> copies;        // under way, the oldest first
    std::vector<std::size_t> groups; // committed: how many copies up to each one's end
};

struct Warp {
    unsigned present, waiting, ended; // lanes
};

// The block that runs. One at a time: the driver's lock is held throughout.
Machine current{};
const Launch* launch = nullptr;
std::vector<void*> parameters;
std::vector<Fiber> fibers(max_threads);
Warp warps[max_threads / 32];
Fiber* running = nullptr;
void* scheduler = nullptr;
unsigned threads, ended, at_barrier, predicates, barrier_result;
char* stacks = nullptr;
char* dynamic_end = nullptr;

std::string spelled(Triple t) {
    return "(" + std::to_string(t.x) + ", " + std::to_string(t.y) + ", " + std::to_string(t.z) + ")";
}

[[noreturn]] void give_up(const std::string& what) {
    std::fprintf(stderr, "emulator: kernel %s, block %s: %s\n", launch->kernel->name, spelled(current.block_index).c_str(), what.c_str());
    std::abort();
}

[[noreturn]] void give_up_thread(const std::string& what) { give_up("thread " + spelled(running->index) + ": " + what); }

void fail(const char* what, const char* file, int line) {
    give_up_thread(std::string(what) + " (" + file + ":" + std::to_string(line) + ")");
}

void wait() { emulator_switch(&running->stack_pointer, scheduler); }

void release_barrier() {
    barrier_result = predicates;
    at_barrier = predicates = 0;
    for (unsigned t = 0; t < threads; t++)
        if (fibers[t].state == State::AtBarrier) fibers[t].state = State::Runnable;
}

unsigned barrier(bool predicate) {
    running->state = State::AtBarrier;
    predicates += predicate;
    if (++at_barrier + ended == threads) release_barrier();
    wait();
    return barrier_result;
}

// Lets the lanes of a mask go on if all have come; those that ended count as come, unless the whole warp is
// demanded.
void try_collective(unsigned warp_index, const Fiber& one) {
    Warp& warp = warps[warp_index];
    const Collective* collective = one.collective;
    const unsigned mask = one.mask & warp.present;
    if (((warp.waiting | (collective->whole_warp ? 0 : warp.ended)) & mask) != mask) return;
    void* operands[32] = {};
    Fiber* lanes = &fibers[warp_index * 32];
    for (unsigned lane = 0; lane < 32; lane++) {
        if ((mask & warp.waiting) >> lane & 1) {
            if (lanes[lane].collective != collective || lanes[lane].mask != one.mask) return;
            operands[lane] = lanes[lane].operand;
        }
    }
    collective->compute(operands);
    for (unsigned lane = 0; lane < 32; lane++)
        if ((mask & warp.waiting) >> lane & 1) lanes[lane].state = State::Runnable;
    warp.waiting &= ~mask;
}

void collective(const Collective* what, unsigned mask, void* operand) {
    Warp& warp = warps[running->warp];
    if (!(mask >> running->lane & 1)) give_up_thread(std::string(what->name) + " with a mask that lacks the own lane");
    if (what->whole_warp && warp.present != 0xffffffff) give_up_thread(std::string(what->name) + " in a warp of fewer than 32 threads");
    static int nothing;
    running->collective = what, running->mask = mask, running->operand = operand ? operand : &nothing;
    running->state = State::InCollective;
    warp.waiting |= 1u << running->lane;
    try_collective(running->warp, *running);
    if (running->state != State::Runnable) wait();
}

void require_shared(const void* address, std::size_t bytes, const char* what) {
    const auto within = [&](const char* begin, std::size_t size) { return address >= begin && (const char*)address + bytes <= begin + size; };
    bool shared = within(current.dynamic_shared, launch->dynamic_shared_bytes);
    for (const auto& [begin, size] : launch->static_shared) shared |= within(begin, size);
    if (!shared) give_up_thread(std::string(what) + " is not in shared memory");
    if (std::uintptr_t(address) % 16) give_up_thread(std::string(what) + " is not aligned to 16 bytes");
}

// Between its issue and its wait a copy may arrive at any time, so what it goes to holds nothing that may be
// used.
void copy_async(void* shared, const void* global, bool valid) {
    require_shared(shared, 16, "the target of copy_async_16");
    if (std::uintptr_t(global) % 16) give_up_thread("the source of copy_async_16 is not aligned to 16 bytes");
    std::memset(shared, 0xff, 16);
    running->copies.push_back({static_cast<char*>(shared), valid ? global : nullptr});
}

void copy_async_commit() { running->groups.push_back(running->copies.size()); }

void copy_async_wait(unsigned under_way) {
    auto& copies = running->copies;
    auto& groups = running->groups;
    if (groups.size() <= under_way) return;
    const std::size_t done_groups = groups.size() - under_way, done = groups[done_groups - 1];
    for (std::size_t i = 0; i < done; i++) {
        if (copies[i].from) std::memcpy(copies[i].to, copies[i].from, 16);
        else std::memset(copies[i].to, 0, 16);
    }
    copies.erase(copies.begin(), copies.begin() + std::ptrdiff_t(done));
    groups.erase(groups.begin(), groups.begin() + std::ptrdiff_t(done_groups));
    for (std::size_t& end : groups) end -= done;
}

[[noreturn]] void thread_main() {
    launch->kernel->call(parameters.data());
    running->state = State::Ended;
    ended++;
    Warp& warp = warps[running->warp];
    warp.ended |= 1u << running->lane;
    if (at_barrier > 0 && at_barrier + ended == threads) release_barrier();
    for (unsigned lane = 0; lane < 32; lane++)
        if (warp.waiting >> lane & 1) try_collective(running->warp, fibers[running->warp * 32 + lane]);
    wait();
    std::abort();
}

void prepare_fiber(unsigned thread) {
    Fiber& fiber = fibers[thread];
    const Triple& block = launch->block;
    fiber.index = {thread % block.x, thread / block.x % block.y, thread / (block.x * block.y)};
    fiber.lane = thread % 32, fiber.warp = thread / 32;
    fiber.state = State::Runnable;
    fiber.copies.clear();
    fiber.groups.clear();
    // As if emulator_switch had been called by nobody from the start of thread_main: six registers, where to
    // return to, one word that leaves the stack aligned as after a call.
    auto* top = reinterpret_cast<void**>(stacks + (thread + 1) * stack_bytes);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(thread_main);
    for (int registers = 0; registers < 6; registers++) *--top = nullptr;
    fiber.stack_pointer = top;
}

void resume(unsigned thread) {
    running = &fibers[thread];
    current.thread_index = running->index;
    current.lane = running->lane;
    emulator_switch(&scheduler, running->stack_pointer);
}

[[noreturn]] void report_deadlock() {
    std::string list;
    std::string last;
    for (unsigned t = 0, first = 0; t <= threads; t++) {
        std::string where;
        if (t < threads && fibers[t].state == State::Ended) where = "have ended";
        else if (t < threads && fibers[t].state == State::AtBarrier) where = "wait at __syncthreads";
        else if (t < threads) {
            char mask[16];
            std::snprintf(mask, sizeof mask, "%08x", fibers[t].mask);
            where = std::string("wait in ") + fibers[t].collective->name + " with mask " + mask;
        }
        if (t > 0 && where != last) {
            list += "\n  threads " + std::to_string(first) + " to " + std::to_string(t - 1) + " " + last;
            first = t;
        }
        last = where;
    }
    give_up("deadlock:" + list);
}

void run_block(std::mt19937* order) {
    for (const auto& [begin, size] : launch->static_shared) std::memset(begin, 0xff, size);
    std::memset(current.dynamic_shared, 0xff, std::size_t(dynamic_end - current.dynamic_shared));
    ended = at_barrier = predicates = 0;
    for (unsigned t = 0; t < threads; t++) prepare_fiber(t);
    for (unsigned w = 0; w * 32 < threads; w++) {
        const unsigned lanes = threads - w * 32;
        warps[w] = {lanes >= 32 ? 0xffffffff : (1u << lanes) - 1, 0, 0};
    }
    std::vector<unsigned> turn(threads);
    std::iota(turn.begin(), turn.end(), 0);
    while (ended < threads) {
        bool progress = false;
        if (order) {
            std::shuffle(turn.begin(), turn.end(), *order);
            for (unsigned t : turn)
                if (fibers[t].state == State::Runnable) resume(t), progress = true;
        } else { // a warp as far as it comes, so that its stacks stay in the cache
            for (unsigned first = 0; first < threads; first += 32) {
                for (bool moved = true; moved;) {
                    moved = false;
                    for (unsigned t = first; t < std::min(first + 32, threads); t++)
                        if (fibers[t].state == State::Runnable) resume(t), moved = progress = true;
                }
            }
        }
        if (!progress) report_deadlock();
    }
}

char* reserve(std::size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) std::perror("emulator: mmap"), std::abort();
    return static_cast<char*>(memory);
}

// Says which thread of which kernel touched what it may not, then lets the signal end the process as it would
// have.
void on_fault(int signal, siginfo_t* info, void*) {
    if (launch) {
        std::fprintf(stderr, "emulator: kernel %s, block %s, thread %s: bad access to %p%s\n", launch->kernel->name,
                     spelled(current.block_index).c_str(), spelled(running->index).c_str(), info->si_addr,
                     describe_address(info->si_addr, dynamic_end, stacks, stacks + max_threads * stack_bytes).c_str());
    }
    std::signal(signal, SIG_DFL);
}

void prepare_machine() {
    stacks = reserve(max_threads * stack_bytes);
    for (unsigned t = 0; t < max_threads; t++) mprotect(stacks + t * stack_bytes, page, PROT_NONE);
    const std::size_t bytes = 256 * 1024; // more than any GPU's block has
    dynamic_end = reserve(bytes + page) + bytes;
    mprotect(dynamic_end, page, PROT_NONE);
}

// A fault on a fiber's full stack needs another stack for its handler; Rust's threads have one, others may
// not.
void prepare_handler() {
    stack_t alternative{};
    sigaltstack(nullptr, &alternative);
    if (alternative.ss_flags & SS_DISABLE) {
        alternative = {reserve(64 * 1024), 0, 64 * 1024};
        sigaltstack(&alternative, nullptr);
    }
}

} // namespace

const Machine* shared_machine() { return &current; }

void run(const Launch& what) {
    static const bool prepared = (prepare_machine(), true);
    static thread_local const bool handled = (prepare_handler(), true);
    (void)prepared, (void)handled;
    struct sigaction action {}, before_segv, before_bus;
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &before_segv);
    sigaction(SIGBUS, &action, &before_bus);

    launch = &what;
    parameters.clear();
    for (const auto& parameter : what.parameters) parameters.push_back(const_cast<char*>(parameter.data()));
    threads = what.block.x * what.block.y * what.block.z;
    current.grid_dim = what.grid, current.block_dim = what.block;
    current.dynamic_shared = dynamic_end - (what.dynamic_shared_bytes + 15) / 16 * 16;
    current.barrier = barrier, current.collective = collective, current.require_shared = require_shared;
    current.copy_async = copy_async, current.copy_async_commit = copy_async_commit, current.copy_async_wait = copy_async_wait;
    current.fail = fail;

    const std::uint64_t blocks = std::uint64_t(what.grid.x) * what.grid.y * what.grid.z;
    const char* seed = std::getenv("EMULATED_ORDER");
    std::mt19937 order(seed ? unsigned(std::atoi(seed)) : 0);
    // Any step that shares no factor with the number of blocks visits each once.
    std::uint64_t step = 1, block = 0;
    if (seed && blocks > 2) {
        do step = 1 + order() % (blocks - 1);
        while (std::gcd(step, blocks) != 1);
        block = order() % blocks;
    }
    for (std::uint64_t done = 0; done < blocks; done++, block = (block + step) % blocks) {
        current.block_index = {unsigned(block % what.grid.x), unsigned(block / what.grid.x % what.grid.y),
                               unsigned(block / what.grid.x / what.grid.y)};
        run_block(seed ? &order : nullptr);
    }
    launch = nullptr;
    sigaction(SIGSEGV, &before_segv, nullptr);
    sigaction(SIGBUS, &before_bus, nullptr);
}

} // namespace emulator
