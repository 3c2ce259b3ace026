// Streams, and the captures that turn what is enqueued on them into graphs. Work waits in its stream until
// somebody waits for it, so that whoever overwrites a host buffer too early, or reads one too early, sees it.

#pragma once
#include "fibers.h"
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace emulator {

// Types of graph nodes, with NVIDIA's numbers.
enum NodeType { KERNEL = 0, MEMCPY = 1, MEMSET = 2, HOST = 3, EMPTY = 5 };

// Something to be done on the device: a kernel of a module, or anything else.
struct Work {
    NodeType type;
    std::function<void()> action;
    std::shared_ptr<const Launch> launch;
    void operator()() const {
        if (launch) emulator::run(*launch);
        else action();
    }
};

struct Graph;

struct Node {
    Graph* graph;
    Work work;
    std::vector<Node*> dependencies;
    Node(Graph* graph, Work work, std::vector<Node*> dependencies);
    ~Node();
};

struct Graph {
    std::vector<std::unique_ptr<Node>> nodes; // none before what it depends on
    Node* add(Work work, std::vector<Node*> dependencies);
};

struct Stream;

struct Capture {
    std::uint64_t id;
    int mode; // 0 global, 1 thread-local, 2 relaxed
    Stream* origin;
    std::thread::id thread;
    std::unique_ptr<Graph> graph;
    bool invalidated = false;
};

struct Queued {
    std::uint64_t number; // of all work ever enqueued
    Work work;
};

struct Stream {
    bool non_blocking = false, asked = false;
    std::deque<Queued> queue;
    std::shared_ptr<Capture> capture;
    std::vector<Node*> dependencies; // of what is captured next
};

struct Event {
    bool timing = true, asked = false;
    std::shared_ptr<Stream> stream; // null: never recorded
    std::uint64_t number = 0;       // of the record
    double done_at_ms = -1;         // of the last record; negative until it is reached
    std::shared_ptr<Capture> capture;
    std::vector<Node*> dependencies;
};

// By handle; null where there is none such.
std::shared_ptr<Stream> find_stream(Stream* handle);
// Puts work at the stream's end, or into the graph that captures it.
int enqueue(Stream* handle, Work work);
// Does a stream's work that has a smaller number.
void run_until(Stream& stream, std::uint64_t number);
// Enqueues on the legacy stream and waits for it, as calls without Async do.
int run_now(Work work);
// The result of a call that is unsafe while a stream captures; not SUCCESS spoils the captures.
int unsafe_call();
void run_everything();

} // namespace emulator
