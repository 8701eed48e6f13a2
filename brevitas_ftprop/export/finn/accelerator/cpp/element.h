// Values of a transaction, packed into 32-bit words, value 0 in the lowest bits.

#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

struct Element {
    int bits = 0;
    std::string encoding;
    size_t count = 0;

    size_t words() const { return (bits * count + 31) / 32; }

    void unpack(const std::vector<uint32_t>& words, std::vector<double>& values) const {
        values.resize(count);
        for (size_t i = 0; i < count; ++i) {
            uint64_t code = 0;
            for (int done = 0; done < bits;) {
                const size_t at = i * bits + done;
                code |= static_cast<uint64_t>(words[at / 32] >> (at % 32)) << done;
                done += 32 - at % 32;
            }
            code &= (uint64_t{1} << bits) - 1;
            values[i] = value(code);
        }
    }

    void pack(const std::vector<double>& values, std::vector<uint32_t>& words) const {
        words.assign(this->words(), 0);
        for (size_t i = 0; i < count; ++i) {
            const uint64_t code = this->code(values[i]) & ((uint64_t{1} << bits) - 1);
            for (int done = 0; done < bits;) {
                const size_t at = i * bits + done;
                words[at / 32] |= static_cast<uint32_t>((code >> done) << (at % 32));
                done += 32 - at % 32;
            }
        }
    }

  private:
    double value(uint64_t code) const {
        if (encoding == "float32") {
            const auto low = static_cast<uint32_t>(code);
            float number;
            std::memcpy(&number, &low, sizeof number);
            return number;
        }
        if (encoding == "bipolar") return code ? 1 : -1;
        if (encoding == "signed" && code >> (bits - 1))
            return static_cast<double>(static_cast<int64_t>(code) - (int64_t{1} << bits));
        return static_cast<double>(code);
    }
    uint64_t code(double value) const {
        if (encoding == "float32") {
            const auto number = static_cast<float>(value);
            uint32_t low;
            std::memcpy(&low, &number, sizeof low);
            return low;
        }
        if (encoding == "bipolar") return value > 0;
        return static_cast<uint64_t>(static_cast<int64_t>(value));
    }
};
