// Runs all nodes of an accelerator, cycle by cycle, with FIFOs between them.
//
// Reads network.txt in its folder, the words that each FIFO is to carry (fifo_<i>.bin, those of the
// batch's images one behind the other), parameters of layers (node_<i>_<k>.bin) and Verilator's
// nodes (node_<i>.so, their files in node_<i>/). Writes record.txt, what came out (outputs.bin) and, of each FIFO that carried
// something else, the first wrong words (wrong_<i>.bin: what was put in, then what was taken out).

#include <dlfcn.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <memory>

#include "fifo.h"
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

// Compares one end of a FIFO with what it is to carry, over and over.
class Check {
  public:
    Check(const std::vector<uint32_t>& expected, size_t words) : expected_(expected), words_(words) {}
    void see(const uint32_t* transaction) {
        const uint32_t* wanted = &expected_[seen_ * words_ % expected_.size()];
        if (std::memcmp(transaction, wanted, words_ * sizeof(uint32_t)) != 0 && wrong_++ == 0) {
            first_ = seen_;
            found_.assign(transaction, transaction + words_);
        }
        ++seen_;
    }
    uint64_t seen() const { return seen_; }
    uint64_t wrong() const { return wrong_; }
    uint64_t first() const { return first_; }
    const std::vector<uint32_t>& found() const { return found_; }

  private:
    const std::vector<uint32_t>& expected_;
    size_t words_;
    uint64_t seen_ = 0, wrong_ = 0, first_ = 0;
    std::vector<uint32_t> found_;
};

struct Stream {
    Stream(size_t words, size_t depth, std::vector<uint32_t> carried)
        : fifo(words, depth), expected(std::move(carried)), in(expected, words), out(expected, words) {
        if (expected.empty() || expected.size() % words != 0) fail("a FIFO's file does not hold whole transactions");
    }
    void push(const uint32_t* transaction) {
        in.see(transaction);
        fifo.push(transaction);
    }
    void pop() {
        out.see(fifo.front());
        fifo.pop();
    }
    Fifo fifo;
    std::vector<uint32_t> expected;
    Check in, out;
};

struct Placed {
    std::unique_ptr<Node> node;
    std::vector<Stream*> from, to;
    bool is_layer = false;
    uint64_t spent[3] = {0, 0, 0};
    uint64_t unstable = 0;
    // Words that were offered and not taken, of each output.
    std::vector<std::vector<uint32_t>> held;
    // The bits of each output's last word that hold values; RTL extends them to whole bytes.
    std::vector<uint32_t> used;

    void settle() {
        for (size_t i = 0; i < from.size(); ++i) {
            Port& port = node->inputs[i];
            port.valid = !from[i]->fifo.empty();
            if (port.valid) std::memcpy(port.words.data(), from[i]->fifo.front(), port.words.size() * sizeof(uint32_t));
        }
        for (size_t i = 0; i < to.size(); ++i) node->outputs[i].ready = !to[i]->fifo.full();
        node->settle();
        ++spent[static_cast<int>(node->state())];
        for (size_t i = 0; i < to.size(); ++i) {
            Port& port = node->outputs[i];
            port.words.back() &= used[i];
            if (!held[i].empty()) unstable += !port.valid || port.words != held[i];
            if (port.valid && !port.ready)
                held[i] = port.words;
            else
                held[i].clear();
        }
    }
    // Whether anything was handed over.
    bool rise() {
        bool moved = is_layer && node->state() == State::kBusy;
        for (size_t i = 0; i < from.size(); ++i)
            if (node->inputs[i].valid && node->inputs[i].ready) {
                from[i]->pop();
                moved = true;
            }
        for (size_t i = 0; i < to.size(); ++i)
            if (node->outputs[i].valid && node->outputs[i].ready) {
                to[i]->push(node->outputs[i].words.data());
                moved = true;
            }
        node->rise();
        return moved;
    }
    // A bit for each input that it waits for.
    uint64_t lacking() const {
        uint64_t mask = 0;
        for (size_t i = 0; i < from.size(); ++i) mask |= static_cast<uint64_t>(node->lacks(i)) << i;
        return mask;
    }
    // A bit for each output that nobody takes.
    uint64_t blocked() const {
        uint64_t mask = 0;
        for (size_t i = 0; i < to.size(); ++i)
            mask |= static_cast<uint64_t>(node->outputs[i].valid && !node->outputs[i].ready) << i;
        return mask;
    }
};

struct Options {
    uint64_t frames, limit, quiet, seed, interval;
};

class Accelerator {
  public:
    explicit Accelerator(std::istream& text) {
        size_t fifos, nodes;
        text >> options_.frames >> options_.limit >> options_.quiet >> options_.seed >> options_.interval;
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
        for (; cycle_ < options_.limit && sink.out.seen() < wanted && quiet < options_.quiet; ++cycle_) {
            const uint64_t next = source.in.seen();
            // Images that come at an interval come evenly.
            const bool is_due = next < given && cycle_ * each_in >= next * options_.interval;
            const bool waits = next < given && !(offered || is_due);
            if (is_due && !offered) offered = pace_in.go();
            const bool puts = offered && !source.fifo.full();
            const bool takes = pace_out.go() && !sink.fifo.empty();
            for (Placed& each : nodes_) each.settle();
            bool moved = puts || takes || waits;
            for (Placed& each : nodes_) moved |= each.rise();
            if (puts) {
                if (next == 0) first_input_ = cycle_;
                source.push(&source.expected[next * source.fifo.words() % source.expected.size()]);
                offered = false;
            }
            if (takes) {
                outputs_.insert(outputs_.end(), sink.fifo.front(), sink.fifo.front() + sink.fifo.words());
                sink.pop();
                if (sink.out.seen() % each_out == 0) ends_.push_back(cycle_);
            }
            quiet = moved ? 0 : quiet + 1;
        }
        status_ = sink.out.seen() == wanted ? "done" : quiet >= options_.quiet ? "deadlock" : "limit";
    }

    void write() const {
        std::ofstream record("record.txt");
        record << status_ << ' ' << cycle_ << ' ' << first_input_ << ' ' << ends_.size();
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
        for (const Placed& each : nodes_) {
            for (uint64_t cycles : each.spent) record << cycles << ' ';
            record << each.unstable << ' ' << each.lacking() << ' ' << each.blocked() << '\n';
        }
        write_file("outputs.bin", outputs_);
        if (!record.flush()) fail("record.txt cannot be written");
    }

  private:
    size_t per_image(const Stream& stream) const {
        return stream.expected.size() / stream.fifo.words() / images_;
    }

    // Which FIFOs a side of a node has, and how their words hold values.
    void connect(std::istream& text, std::vector<Stream*>& streams, std::vector<Element>& elements) {
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
        const auto make_node = reinterpret_cast<Node* (*)(const char*)>(dlsym(library, "make_node"));
        if (make_node == nullptr) fail(dlerror());
        return make_node(name.c_str());
    }

    Options options_;
    size_t images_;
    std::vector<std::unique_ptr<Stream>> streams_;
    std::vector<Placed> nodes_;
    std::vector<uint64_t> ends_;
    std::vector<uint32_t> outputs_;
    uint64_t cycle_ = 0, first_input_ = 0;
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
