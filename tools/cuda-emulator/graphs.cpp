// libcuda.so.1: graphs. A graph runs its nodes in the order they were added, which respects what they depend
// on.

#include "driver.h"
#include "modules.h"
#include "streams.h"
#include <algorithm>
#include <set>

namespace emulator {
namespace {

// Of captures and graphs that have not been destroyed: a node's handle is worth nothing beyond its graph.
std::set<const Node*> living;

} // namespace

Node::Node(Graph* graph, Work work, std::vector<Node*> dependencies)
    : graph(graph), work(std::move(work)), dependencies(std::move(dependencies)) {
    living.insert(this);
}
Node::~Node() { living.erase(this); }

Node* Graph::add(Work work, std::vector<Node*> dependencies) {
    nodes.push_back(std::make_unique<Node>(this, std::move(work), std::move(dependencies)));
    return nodes.back().get();
}

struct ExecutableNode {
    const Node* origin; // only its address: the handle by which parameters are changed
    Work work;
};
struct Executable {
    std::vector<ExecutableNode> nodes;
};

} // namespace emulator

using namespace emulator;

API cuGraphCreate(Graph** graph, unsigned flags) {
    IN_CONTEXT;
    if (flags != 0) return INVALID_VALUE;
    return *graph = new Graph, SUCCESS;
}
API cuGraphDestroy(Graph* graph) {
    IN_CONTEXT;
    delete graph;
    return SUCCESS;
}
API cuGraphAddKernelNode_v2(Node** handle, Graph* graph, Node* const* dependencies, std::size_t count, const KernelNodeParameters* parameters) {
    IN_CONTEXT;
    std::shared_ptr<const Launch> launch;
    if (const int result = prepare(*parameters, launch)) return result;
    *handle = graph->add({KERNEL, nullptr, launch}, {dependencies, dependencies + count});
    return SUCCESS;
}
API cuGraphGetNodes(Graph* graph, Node** nodes, std::size_t* count) {
    IN_CONTEXT;
    if (nodes) {
        *count = std::min(*count, graph->nodes.size());
        for (std::size_t i = 0; i < *count; i++) nodes[i] = graph->nodes[i].get();
    } else {
        *count = graph->nodes.size();
    }
    return SUCCESS;
}
API cuGraphNodeGetType(Node* node, int* type) { return *type = node->work.type, SUCCESS; }
API cuGraphNodeGetDependencies(Node* node, Node** dependencies, std::size_t* count) {
    IN_CONTEXT;
    if (dependencies) {
        *count = std::min(*count, node->dependencies.size());
        std::copy_n(node->dependencies.begin(), *count, dependencies);
    } else {
        *count = node->dependencies.size();
    }
    return SUCCESS;
}
API cuGraphInstantiateWithFlags(Executable** executable, Graph* graph, std::uint64_t) {
    IN_CONTEXT;
    *executable = new Executable;
    for (const auto& node : graph->nodes) (*executable)->nodes.push_back({node.get(), node->work});
    return SUCCESS;
}
API cuGraphExecDestroy(Executable* executable) {
    IN_CONTEXT;
    delete executable;
    return SUCCESS;
}
API cuGraphExecKernelNodeSetParams_v2(Executable* executable, Node* handle, const KernelNodeParameters* parameters) {
    IN_CONTEXT;
    if (!living.count(handle)) return INVALID_VALUE;
    for (ExecutableNode& node : executable->nodes) {
        if (node.origin != handle) continue;
        if (!node.work.launch) return INVALID_VALUE; // not a kernel of a module
        return prepare(*parameters, node.work.launch);
    }
    return INVALID_VALUE;
}
API cuGraphUpload(Executable*, Stream*) { return SUCCESS; }
// What is changed in the executable later does not reach this launch.
API cuGraphLaunch(Executable* executable, Stream* stream) {
    IN_CONTEXT;
    const auto found = find_stream(stream);
    if (!found) return INVALID_HANDLE;
    if (found->capture) return NOT_SUPPORTED;
    return enqueue(stream, {EMPTY, [nodes = executable->nodes] { for (const ExecutableNode& node : nodes) node.work(); }, nullptr});
}
