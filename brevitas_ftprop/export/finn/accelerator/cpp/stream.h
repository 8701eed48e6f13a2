// A FIFO, and what it is to carry beside it.

#pragma once

#include <cstring>
#include <utility>
#include <vector>

#include "fifo.h"
#include "node.h"

// Compares one end of a FIFO with what it is to carry, over and over.
class Check {
  public:
    Check(const std::vector<uint32_t>& expected, size_t words)
        : expected_(expected), words_(words) {}
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
        : fifo(words, depth),
          expected(std::move(carried)),
          in(expected, words),
          out(expected, words) {
        if (expected.empty() || expected.size() % words != 0)
            fail("a FIFO's file does not hold whole transactions");
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
