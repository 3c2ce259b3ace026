// libcuda.so.1: streams and events.
//
// The legacy stream (handle 0) and blocking streams wait for each other's earlier work as on hardware; a
// stream made non-blocking waits only for events. A query counts as "not ready" once, then does the work, so
// that loops of queries end.

#include "streams.h"
#include "driver.h"
#include <algorithm>
#include <chrono>
#include <map>

namespace emulator {
namespace {

constexpr std::uint64_t everything = ~std::uint64_t(0);
std::uint64_t next_number = 0, next_capture = 1;
const auto legacy = std::make_shared<Stream>();
thread_local const auto per_thread = std::make_shared<Stream>();
std::map<Stream*, std::shared_ptr<Stream>> streams;
std::map<Event*, std::unique_ptr<Event>> events;

std::vector<std::weak_ptr<Capture>> captures;

double now_ms() {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Event* find_event(Event* handle) { return events.count(handle) ? handle : nullptr; }

int invalidate(Capture& capture, int result) { return capture.invalidated = true, result; }

} // namespace

std::shared_ptr<Stream> find_stream(Stream* handle) {
    const auto number = reinterpret_cast<std::uintptr_t>(handle);
    if (number <= 1) return legacy;
    if (number == 2) return streams.emplace(per_thread.get(), per_thread).first->second;
    const auto found = streams.find(handle);
    return found == streams.end() ? nullptr : found->second;
}

int enqueue(Stream* handle, Work work) {
    const auto stream = find_stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) {
        if (stream->capture->invalidated) return STREAM_CAPTURE_INVALIDATED;
        stream->dependencies = {stream->capture->graph->add(std::move(work), stream->dependencies)};
        return SUCCESS;
    }
    if (stream == legacy) {
        for (const auto& [handle, other] : streams)
            if (other->capture && !other->non_blocking) return invalidate(*other->capture, STREAM_CAPTURE_IMPLICIT);
    }
    stream->asked = false;
    stream->queue.push_back({next_number++, std::move(work)});
    return SUCCESS;
}

void run_until(Stream& stream, std::uint64_t number) {
    while (!stream.queue.empty() && stream.queue.front().number < number) {
        const Queued next = std::move(stream.queue.front());
        stream.queue.pop_front();
        if (&stream == legacy.get()) {
            for (const auto& [handle, other] : streams)
                if (!other->non_blocking) run_until(*other, next.number);
        } else if (!stream.non_blocking) {
            run_until(*legacy, next.number);
        }
        next.work();
    }
}

void run_everything() {
    run_until(*legacy, everything);
    for (const auto& [handle, stream] : streams) run_until(*stream, everything);
}

int run_now(Work work) {
    if (const int result = unsafe_call()) return result;
    if (const int result = enqueue(nullptr, std::move(work))) return result;
    run_until(*legacy, everything);
    return SUCCESS;
}

int unsafe_call() {
    int result = SUCCESS;
    for (const auto& weak : captures) {
        const auto capture = weak.lock();
        if (!capture) continue;
        if (capture->mode == 0 || (capture->mode == 1 && capture->thread == std::this_thread::get_id())) {
            result = invalidate(*capture, STREAM_CAPTURE_UNSUPPORTED);
        }
    }
    return result;
}

} // namespace emulator

using namespace emulator;

// For libcublasLt: work of its own on a stream of this library.
extern "C" __attribute__((visibility("default"))) int emulator_enqueue(void* stream, std::function<void()> action) {
    const std::lock_guard<std::recursive_mutex> guard(lock);
    return enqueue(static_cast<Stream*>(stream), {KERNEL, std::move(action), nullptr});
}

API cuStreamCreate(Stream** handle, unsigned flags) {
    IN_CONTEXT;
    if (flags > 1) return INVALID_VALUE;
    auto stream = std::make_shared<Stream>();
    stream->non_blocking = flags == 1;
    *handle = stream.get();
    streams.emplace(*handle, std::move(stream));
    return SUCCESS;
}
API cuStreamCreateWithPriority(Stream** handle, unsigned flags, int) { return cuStreamCreate(handle, flags); }
API cuStreamDestroy_v2(Stream* handle) {
    IN_CONTEXT;
    const auto found = streams.find(handle);
    if (found == streams.end()) return INVALID_HANDLE;
    run_until(*found->second, everything);
    streams.erase(found);
    return SUCCESS;
}
API cuStreamSynchronize(Stream* handle) {
    IN_CONTEXT;
    const auto stream = find_stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) return invalidate(*stream->capture, STREAM_CAPTURE_UNSUPPORTED);
    run_until(*stream, everything);
    return SUCCESS;
}
API cuStreamQuery(Stream* handle) {
    IN_CONTEXT;
    const auto stream = find_stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) return invalidate(*stream->capture, STREAM_CAPTURE_UNSUPPORTED);
    if (stream->queue.empty()) return SUCCESS;
    if (!std::exchange(stream->asked, true)) return NOT_READY;
    run_until(*stream, everything);
    return SUCCESS;
}
API cuCtxSynchronize() {
    IN_CONTEXT;
    if (const int result = unsafe_call()) return result;
    run_everything();
    return SUCCESS;
}
API cuStreamGetPriority(Stream*, int* priority) { return *priority = 0, SUCCESS; }
API cuLaunchHostFunc(Stream* handle, void (*function)(void*), void* data) {
    IN_CONTEXT;
    return enqueue(handle, {HOST, [=] { function(data); }, nullptr});
}

// ---- Events ----

API cuEventCreate(Event** handle, unsigned flags) {
    IN_CONTEXT;
    auto event = std::make_unique<Event>();
    event->timing = !(flags & 2);
    *handle = event.get();
    events.emplace(*handle, std::move(event));
    return SUCCESS;
}
API cuEventDestroy_v2(Event* handle) {
    IN_CONTEXT;
    Event* event = find_event(handle);
    if (!event) return INVALID_HANDLE;
    if (event->stream) run_until(*event->stream, event->number + 1); // the record that is queued writes into the event
    events.erase(handle);
    return SUCCESS;
}
API cuEventRecord(Event* handle, Stream* stream_handle) {
    IN_CONTEXT;
    Event* event = find_event(handle);
    const auto stream = find_stream(stream_handle);
    if (!event || !stream) return INVALID_HANDLE;
    event->asked = false;
    event->capture = stream->capture;
    if (stream->capture) {
        if (stream->capture->invalidated) return STREAM_CAPTURE_INVALIDATED;
        event->dependencies = stream->dependencies;
        return SUCCESS;
    }
    if (event->stream) run_until(*event->stream, event->number + 1);
    event->stream = stream;
    event->done_at_ms = -1;
    event->number = next_number;
    return enqueue(stream_handle, {EMPTY, [=] { event->done_at_ms = now_ms(); }, nullptr});
}
API cuEventRecordWithFlags(Event* handle, Stream* stream, unsigned) { return cuEventRecord(handle, stream); }
API cuEventSynchronize(Event* handle) {
    IN_CONTEXT;
    Event* event = find_event(handle);
    if (!event) return INVALID_HANDLE;
    if (event->capture) return CAPTURED_EVENT;
    if (event->stream) run_until(*event->stream, event->number + 1);
    return SUCCESS;
}
API cuEventQuery(Event* handle) {
    IN_CONTEXT;
    Event* event = find_event(handle);
    if (!event) return INVALID_HANDLE;
    if (event->capture) return CAPTURED_EVENT;
    if (!event->stream || event->done_at_ms >= 0) return SUCCESS;
    if (!std::exchange(event->asked, true)) return NOT_READY;
    run_until(*event->stream, event->number + 1);
    return SUCCESS;
}
API cuEventElapsedTime_v2(float* ms, Event* start_handle, Event* end_handle) {
    IN_CONTEXT;
    Event *start = find_event(start_handle), *end = find_event(end_handle);
    if (!start || !end || !start->timing || !end->timing || !start->stream || !end->stream) return INVALID_HANDLE;
    if (start->done_at_ms < 0 || end->done_at_ms < 0) return NOT_READY;
    *ms = float(end->done_at_ms - start->done_at_ms);
    return SUCCESS;
}
API cuEventElapsedTime(float* ms, Event* start, Event* end) { return cuEventElapsedTime_v2(ms, start, end); }
API cuStreamWaitEvent(Stream* handle, Event* event_handle, unsigned) {
    IN_CONTEXT;
    Event* event = find_event(event_handle);
    const auto stream = find_stream(handle);
    if (!event || !stream) return INVALID_HANDLE;
    if (const auto capture = event->capture) {
        if (capture->invalidated) return STREAM_CAPTURE_INVALIDATED;
        if (stream == legacy || (stream->capture && stream->capture != capture)) return invalidate(*capture, STREAM_CAPTURE_ISOLATION);
        stream->capture = capture; // from here on it is captured too
        for (Node* node : event->dependencies) stream->dependencies.push_back(node);
        return SUCCESS;
    }
    if (stream->capture) return invalidate(*stream->capture, STREAM_CAPTURE_ISOLATION);
    if (!event->stream) return SUCCESS;
    return enqueue(handle, {EMPTY, [other = event->stream, number = event->number] { run_until(*other, number + 1); }, nullptr});
}

// ---- Capture ----

API cuStreamBeginCapture_v2(Stream* handle, int mode) {
    IN_CONTEXT;
    const auto stream = find_stream(handle);
    if (!stream || mode < 0 || mode > 2) return INVALID_VALUE;
    if (stream == legacy || stream->capture) return STREAM_CAPTURE_UNSUPPORTED;
    stream->capture = std::make_shared<Capture>(
        Capture{next_capture++, mode, stream.get(), std::this_thread::get_id(), std::make_unique<Graph>()});
    stream->dependencies.clear();
    captures.push_back(stream->capture);
    return SUCCESS;
}
API cuStreamEndCapture(Stream* handle, Graph** graph) {
    IN_CONTEXT;
    *graph = nullptr;
    const auto stream = find_stream(handle);
    if (!stream || !stream->capture) return INVALID_VALUE;
    const auto capture = stream->capture;
    if (capture->origin != stream.get()) return invalidate(*capture, STREAM_CAPTURE_UNMATCHED);
    for (const auto& [other_handle, other] : streams)
        if (other->capture == capture) other->capture = nullptr, other->dependencies.clear();
    const auto over = [&](const auto& weak) { return weak.expired() || weak.lock() == capture; };
    captures.erase(std::remove_if(captures.begin(), captures.end(), over), captures.end());
    if (capture->invalidated) return STREAM_CAPTURE_INVALIDATED;
    *graph = capture->graph.release();
    return SUCCESS;
}
API cuStreamIsCapturing(Stream* handle, int* status) {
    IN_CONTEXT;
    const auto stream = find_stream(handle);
    if (!stream) return INVALID_HANDLE;
    *status = !stream->capture ? 0 : stream->capture->invalidated ? 2 : 1;
    return SUCCESS;
}
API cuStreamGetCaptureInfo_v2(Stream* handle, int* status, std::uint64_t* id, Graph** graph, Node* const** dependencies,
                              std::size_t* count) {
    if (const int result = cuStreamIsCapturing(handle, status)) return result;
    if (*status != 1) return SUCCESS;
    const std::lock_guard<std::recursive_mutex> guard(lock);
    const auto stream = find_stream(handle);
    if (id) *id = stream->capture->id;
    if (graph) *graph = stream->capture->graph.get();
    if (dependencies) *dependencies = stream->dependencies.data();
    if (count) *count = stream->dependencies.size();
    return SUCCESS;
}
API cuStreamGetCaptureInfo_v3(Stream* handle, int* status, std::uint64_t* id, Graph** graph, Node* const** dependencies,
                              const void** edges, std::size_t* count) {
    if (edges) *edges = nullptr;
    return cuStreamGetCaptureInfo_v2(handle, status, id, graph, dependencies, count);
}
