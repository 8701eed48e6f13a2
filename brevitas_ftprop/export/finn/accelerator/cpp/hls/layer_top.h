// Calls the function that FINN writes for a layer in HLS, with streams that come from files.

#pragma once

#include <cstdlib>
#include <cstring>
#include <tuple>
#include <utility>

#include <ap_int.h>
#include <hls_stream.h>
#include <hls_vector.h>

#include "node.h"

// How a transaction lies in 32-bit words, least significant first.
template <class Transaction>
struct Packing;

template <int Bits>
struct Packing<ap_uint<Bits>> {
    static constexpr size_t kBits = Bits;
    static ap_uint<Bits> read(const uint32_t* words) {
        ap_uint<Bits> value = 0;
        for (int low = 0; low < Bits; low += 32)
            value(std::min(low + 31, Bits - 1), low) = ap_uint<32>(words[low / 32]);
        return value;
    }
    static void write(const ap_uint<Bits>& value, uint32_t* words) {
        for (int low = 0; low < Bits; low += 32)
            words[low / 32] = ap_uint<32>(value(std::min(low + 31, Bits - 1), low)).to_uint();
    }
};

template <int Bits>
struct Packing<ap_int<Bits>> {
    static constexpr size_t kBits = Bits;
    static ap_int<Bits> read(const uint32_t* words) { return Packing<ap_uint<Bits>>::read(words); }
    static void write(const ap_int<Bits>& value, uint32_t* words) {
        Packing<ap_uint<Bits>>::write(value, words);
    }
};

template <>
struct Packing<float> {
    static constexpr size_t kBits = 32;
    static float read(const uint32_t* words) {
        float value;
        std::memcpy(&value, words, sizeof value);
        return value;
    }
    static void write(float value, uint32_t* words) { std::memcpy(words, &value, sizeof value); }
};

template <class Value, size_t Count>
struct Packing<hls::vector<Value, Count>> {
    static constexpr size_t kEach = Packing<Value>::kBits, kBits = kEach * Count;
    using Flat = Packing<ap_uint<kBits>>;
    using Each = Packing<ap_uint<kEach>>;
    static hls::vector<Value, Count> read(const uint32_t* words) {
        const ap_uint<kBits> flat = Flat::read(words);
        hls::vector<Value, Count> values;
        for (size_t i = 0; i < Count; ++i) {
            uint32_t code[(kEach + 31) / 32];
            Each::write(flat((i + 1) * kEach - 1, i * kEach), code);
            values[i] = Packing<Value>::read(code);
        }
        return values;
    }
    static void write(const hls::vector<Value, Count>& values, uint32_t* words) {
        ap_uint<kBits> flat = 0;
        for (size_t i = 0; i < Count; ++i) {
            uint32_t code[(kEach + 31) / 32];
            Packing<Value>::write(values[i], code);
            flat((i + 1) * kEach - 1, i * kEach) = Each::read(code);
        }
        Flat::write(flat, words);
    }
};

// Where a stream comes from or goes to, and its transactions; those of an input come over and over.
struct End {
    bool is_input;
    std::string file;
    size_t count;
};

template <class Transaction>
class Channel {
  public:
    Channel(const End& end) : end_(end) {
        if (!end.is_input) return;
        const auto words = read_file<uint32_t>(end.file);
        if (words.empty() || words.size() % kWords != 0)
            fail(end.file + " does not hold whole transactions of the stream's width");
        for (size_t i = 0; i < end.count; ++i)
            stream.write(Packing<Transaction>::read(&words[i * kWords % words.size()]));
    }
    bool is_complete() { return end_.is_input || stream.size() >= end_.count; }
    void finish() {
        std::vector<uint32_t> words(stream.size() * kWords);
        for (size_t i = 0; i < words.size(); i += kWords)
            Packing<Transaction>::write(stream.read(), &words[i]);
        if (!end_.is_input) write_file(end_.file, words);
    }
    hls::stream<Transaction> stream;

  private:
    static constexpr size_t kWords = (Packing<Transaction>::kBits + 31) / 32;
    End end_;
};

// Arguments: calls at most; then of each stream "in" or "out", its file, its transactions.
template <class... Transactions>
int run_layer(void (*top)(hls::stream<Transactions>&...), char** arguments) {
    const uint64_t calls = std::strtoull(*arguments++, nullptr, 10);
    const auto next = [&] {
        const std::string side = *arguments++, file = *arguments++;
        return End{side == "in", file, std::strtoull(*arguments++, nullptr, 10)};
    };
    // Braces are filled from left to right.
    std::tuple<Channel<Transactions>...> channels{
        [&](Transactions*) { return next(); }(nullptr)...};
    std::apply(
        [&](auto&... each) {
            for (uint64_t call = 0; call < calls && !(each.is_complete() && ...); ++call)
                top(each.stream...);
            (each.finish(), ...);
        },
        channels);
    return 0;
}
