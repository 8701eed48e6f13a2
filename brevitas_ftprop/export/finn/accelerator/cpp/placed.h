// A node where it stands: between its FIFOs.

#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "node.h"
#include "stream.h"

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
            if (!port.valid) continue;
            const size_t bytes = port.words.size() * sizeof(uint32_t);
            std::memcpy(port.words.data(), from[i]->fifo.front(), bytes);
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
    // Take what is read; whether there was anything, or a layer works without.
    bool take() {
        bool moved = is_layer && node->state() == State::kBusy;
        for (size_t i = 0; i < from.size(); ++i)
            if (node->inputs[i].valid && node->inputs[i].ready) {
                from[i]->pop();
                moved = true;
            }
        return moved;
    }
    // Hand over what is written; whether there was anything.
    bool give() {
        bool moved = false;
        for (size_t i = 0; i < to.size(); ++i)
            if (node->outputs[i].valid && node->outputs[i].ready) {
                to[i]->push(node->outputs[i].words.data());
                moved = true;
            }
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
