// Runs all nodes of an accelerator, cycle by cycle, with FIFOs between them.
//
// Reads network.txt in its folder, the words that each FIFO is to carry (fifo_<i>.bin, those of the
// batch's images one behind the other), parameters of layers (node_<i>_<k>.bin) and Verilator's
// nodes (node_<i>.so, their files in node_<i>/). Writes record.txt, what came out (outputs.bin),
// what happened when (timeline.bin) and, of each FIFO that carried something else, the first wrong
// words (wrong_<i>.bin: what was put in, then what was taken out).

#include <dlfcn.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <map>
#include <memory>

#include "layers/duplicate_streams.h"
#include "layers/elementwise.h"
#include "layers/global_acc_pool.h"
#include "layers/join_channels.h"
#include "layers/label_select.h"
#include "layers/matrix_vector.h"
#include "layers/pool.h"
#include "layers/split_channels.h"
#include "layers/thresholding.h"
#include "layers/upsampling.h"
#include "layers/vector_vector.h"
#include "layers/width_converter.h"
#include "pace.h"
#include "placed.h"
#include "sampler.h"
#include "stream.h"
#include "timeline.h"

namespace {

using Maker = std::function<Node*(const Parameters&)>;

template <class Kind>
Node* make(const Parameters& given) {
    return new Kind(given);
}

const std::map<std::string, Maker> kLayers = {
    {"duplicate_streams", make<DuplicateStreams>}, {"elementwise", make<Elementwise>},
    {"global_acc_pool", make<GlobalAccPool>},      {"join_channels", make<JoinChannels>},
    {"label_select", make<LabelSelect>},           {"matrix_vector", make<MatrixVector>},
    {"pool", make<Pool>},                          {"split_channels", make<SplitChannels>},
    {"thresholding", make<Thresholding>},          {"upsampling", make<Upsampling>},
    {"vector_vector", make<VectorVector>},         {"width_converter", make<WidthConverter>},
};

using Clock = std::chrono::steady_clock;

// How often it is told how far the simulation is, and in which cycles the time is looked at.
constexpr auto kTold = std::chrono::milliseconds(200);
constexpr uint64_t kLooked = 256;

struct Options {
    uint64_t frames, limit, quiet, seed, interval;
};

class Accelerator {
  public:
    explicit Accelerator(std::istream& text) {
        size_t fifos, nodes;
        text >> options_.frames >> options_.limit >> options_.quiet;
        text >> options_.seed >> options_.interval;
        text >> images_ >> fifos;
        for (size_t i = 0; i < fifos; ++i) {
            size_t words, depth;
            text >> words >> depth;
            const auto carried = read_file<uint32_t>("fifo_" + std::to_string(i) + ".bin");
            streams_.push_back(std::make_unique<Stream>(words, depth, carried));
        }
        text >> nodes;
        for (size_t i = 0; i < nodes; ++i) place(text, "node_" + std::to_string(i));
        if (!text) fail("network.txt is not complete");
    }

    void run() {
        Stream &source = *streams_.front(), &sink = *streams_.back();
        const size_t each_in = per_image(source), each_out = per_image(sink);
        const uint64_t given = options_.frames * each_in, wanted = options_.frames * each_out;
        Pace pace_in(options_.seed), pace_out(options_.seed * 5);
        uint64_t quiet = 0;
        bool offered = false;
        Timeline timeline(nodes_.size(), streams_.size());
        const auto goes_on = [&] {
            return cycle_ < options_.limit && sink.out.seen() < wanted && quiet < options_.quiet;
        };
        Sampler sampler(nodes_.size() + 1);
        auto told = Clock::now();
        for (; goes_on(); ++cycle_) {
            if (cycle_ % kLooked == 0 && Clock::now() - told > kTold) {
                told = Clock::now();
                std::printf("progress: %llu %llu\n", static_cast<unsigned long long>(sink.out.seen()),
                            static_cast<unsigned long long>(cycle_));
                std::fflush(stdout);
            }
            const uint64_t next = source.in.seen();
            // Images that come at an interval come evenly.
            const bool is_due = next < given && cycle_ * each_in >= next * options_.interval;
            const bool waits = next < given && !(offered || is_due);
            if (is_due && !offered) offered = pace_in.go();
            const bool puts = offered && !source.fifo.full();
            const bool takes = pace_out.go() && !sink.fifo.empty();
            for (size_t i = 0; i < nodes_.size(); ++i) {
                sampler.enter(i);
                nodes_[i].settle();
            }
            sampler.enter(nodes_.size());
            bool moved = puts || takes || waits;
            // All reads, then all writes: what a FIFO holds at most is counted between cycles.
            for (Placed& each : nodes_) moved |= each.take();
            if (takes) {
                const uint32_t* words = sink.fifo.front();
                outputs_.insert(outputs_.end(), words, words + sink.fifo.words());
                sink.pop();
                if (sink.out.seen() % each_out == 0) ends_.push_back(cycle_);
            }
            for (Placed& each : nodes_) moved |= each.give();
            if (puts) {
                if (next == 0) first_input_ = cycle_;
                source.push(&source.expected[next * source.fifo.words() % source.expected.size()]);
                offered = false;
            }
            for (size_t i = 0; i < nodes_.size(); ++i) {
                sampler.enter(i);
                nodes_[i].node->rise();
            }
            sampler.enter(nodes_.size());
            quiet = moved ? 0 : quiet + 1;
            if (timeline.is_due(cycle_)) timeline.add(counters());
        }
        if (sink.out.seen() == wanted)
            status_ = "done";
        else if (quiet >= options_.quiet)
            status_ = "deadlock";
        stride_ = timeline.stride();
        write_file("timeline.bin", timeline.pieces());
    }

    void write() const {
        std::ofstream record("record.txt");
        record << status_ << ' ' << cycle_ << ' ' << first_input_ << ' ' << stride_;
        for (uint64_t end : ends_) record << ' ' << end;
        record << '\n';
        for (size_t i = 0; i < streams_.size(); ++i) {
            const Stream& each = *streams_[i];
            record << each.fifo.largest() << ' ' << each.fifo.fill();
            for (const Check* check : {&each.in, &each.out})
                record << ' ' << check->seen() << ' ' << check->wrong() << ' ' << check->first();
            record << '\n';
            if (each.in.wrong() + each.out.wrong() == 0) continue;
            std::vector<uint32_t> words = each.in.found();
            words.insert(words.end(), each.out.found().begin(), each.out.found().end());
            write_file("wrong_" + std::to_string(i) + ".bin", words);
        }
        for (size_t i = 0; i < nodes_.size(); ++i) {
            const Placed& each = nodes_[i];
            for (uint64_t cycles : each.spent) record << cycles << ' ';
            record << each.unstable << ' ' << each.lacking() << ' ' << each.blocked() << ' '
                   << Sampler::counts()[i] << '\n';
        }
        record << Sampler::counts().back() << '\n';
        write_file("outputs.bin", outputs_);
        if (!record.flush()) fail("record.txt cannot be written");
    }

  private:
    size_t per_image(const Stream& stream) const {
        return stream.expected.size() / stream.fifo.words() / images_;
    }

    std::vector<uint64_t> counters() const {
        std::vector<uint64_t> now;
        for (const Placed& each : nodes_) now.insert(now.end(), each.spent, each.spent + 3);
        for (const auto& each : streams_) now.push_back(each->fifo.fill());
        return now;
    }

    // Which FIFOs a side of a node has, and how their words hold values.
    void connect(std::istream& text, std::vector<Stream*>& streams,
                 std::vector<Element>& elements) {
        size_t count;
        for (text >> count; text && streams.size() < count;) {
            size_t fifo;
            Element element;
            text >> fifo >> element.bits >> element.encoding >> element.count;
            streams.push_back(streams_.at(fifo).get());
            elements.push_back(element);
        }
    }

    void place(std::istream& text, const std::string& name) {
        std::string kind;
        Parameters given;
        Placed placed;
        size_t numbers, arrays;
        text >> kind;
        connect(text, placed.from, given.inputs);
        connect(text, placed.to, given.outputs);
        text >> numbers;
        given.numbers.resize(numbers);
        for (int64_t& number : given.numbers) text >> number;
        text >> arrays;
        for (size_t i = 0; i < arrays; ++i)
            given.arrays.push_back(read_file<double>(name + "_" + std::to_string(i) + ".bin"));
        if (!text) fail("network.txt is not complete");
        placed.is_layer = kind != "rtl";
        placed.node.reset(placed.is_layer ? kLayers.at(kind)(given) : load(name));
        placed.held.resize(placed.to.size());
        for (const Element& element : given.outputs) {
            const size_t bits = element.bits * element.count % 32;
            placed.used.push_back(bits == 0 ? ~uint32_t{0} : (uint32_t{1} << bits) - 1);
        }
        nodes_.push_back(std::move(placed));
    }

    static Node* load(const std::string& name) {
        void* library = dlopen(("./" + name + ".so").c_str(), RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) fail(dlerror());
        using Make = Node* (*)(const char*);
        const auto make_node = reinterpret_cast<Make>(dlsym(library, "make_node"));
        if (make_node == nullptr) fail(dlerror());
        return make_node(name.c_str());
    }

    Options options_;
    size_t images_;
    std::vector<std::unique_ptr<Stream>> streams_;
    std::vector<Placed> nodes_;
    std::vector<uint64_t> ends_;
    std::vector<uint32_t> outputs_;
    uint64_t cycle_ = 0, first_input_ = 0, stride_ = 1;
    const char* status_ = "limit";
};

}  // namespace

int main() {
    std::ifstream text("network.txt");
    Accelerator accelerator(text);
    accelerator.run();
    accelerator.write();
    return 0;
}
