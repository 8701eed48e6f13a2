// What every node of an accelerator is to the simulation: streams in and out, and a clock.

#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

// One stream of a node: a transaction is handed over in a cycle that is valid and ready.
struct Port {
    std::vector<uint32_t> words;
    bool valid = false;
    bool ready = false;
};

// How a node spends a clock cycle.
enum class State { kBusy, kStarved, kBlocked };

class Node {
  public:
    virtual ~Node() = default;
    // With the inputs' words and valid and the outputs' ready given, say what is offered and taken.
    virtual void settle() = 0;
    // The rising edge of the clock.
    virtual void rise() = 0;
    // How this cycle is spent, once it has settled. RTL does not say whether it works or waits:
    // where nothing moves and there is no input, it waits.
    virtual State state() const {
        bool moves = false, lacks = false;
        for (const Port& port : outputs) {
            if (port.valid && !port.ready) return State::kBlocked;
            moves = moves || port.valid;
        }
        for (size_t i = 0; i < inputs.size(); ++i) {
            moves = moves || (inputs[i].valid && inputs[i].ready);
            lacks = lacks || this->lacks(i);
        }
        return lacks && !moves ? State::kStarved : State::kBusy;
    }
    // Whether there is nothing at an input that it may be waiting for.
    virtual bool lacks(size_t input) const { return !inputs[input].valid; }

    std::vector<Port> inputs;
    std::vector<Port> outputs;
};

[[noreturn]] inline void fail(const std::string& why) {
    std::fprintf(stderr, "%s\n", why.c_str());
    std::exit(2);
}

template <class Item>
std::vector<Item> read_file(const std::string& name) {
    std::FILE* file = std::fopen(name.c_str(), "rb");
    if (file == nullptr) fail(name + " cannot be read");
    std::vector<Item> items;
    Item buffer[4096];
    size_t got;
    while ((got = std::fread(buffer, sizeof(Item), 4096, file)) > 0)
        items.insert(items.end(), buffer, buffer + got);
    std::fclose(file);
    return items;
}

template <class Item>
void write_file(const std::string& name, const std::vector<Item>& items) {
    std::FILE* file = std::fopen(name.c_str(), "wb");
    const size_t count = items.size();
    if (file == nullptr || std::fwrite(items.data(), sizeof(Item), count, file) != count ||
        std::fclose(file) != 0)
        fail(name + " cannot be written");
}
