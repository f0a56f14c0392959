// Building the double array of `Trie`: each node's children are put where all of them find a free place.
#include <algorithm>
#include <queue>

#include "vocabulary.h"

namespace rm_grpc {

class Trie::Builder {
  public:
    using Keys = std::vector<std::pair<std::string_view, TokenId>>;

    Builder(const Keys& keys, Large<Unit>& units, Large<TokenId>& tokens)
        : keys_(keys), units_(units), tokens_(tokens) {
        grow();
    }

    // Children of nodes that lead to the smallest ids, which are the commonest tokens, are put first and so close together.
    void build() {
        units_[0].parent = 0;
        skip_taken();
        if (!keys_.empty()) waiting_.push({0, 0, 0, keys_.size(), 0});
        while (!waiting_.empty()) {
            const auto next = waiting_.top();
            waiting_.pop();
            place(next);
        }
    }

  private:
    using Children = std::vector<std::pair<unsigned char, std::size_t>>;  // label, first key

    // A node that stands for the first `depth` bytes of the keys [from, to).
    struct Node {
        TokenId smallest;
        std::uint32_t place;
        std::size_t from, to, depth;

        bool operator<(const Node& other) const { return smallest > other.smallest; }
    };

    void place(const Node& node) {
        auto from = node.from;
        if (keys_[from].first.size() == node.depth) {
            units_[node.place].base = kAccepts;
            tokens_[node.place] = keys_[from++].second;
        }
        if (from == node.to) return;
        Children children;
        for (auto at = from; at < node.to; ++at) {
            const auto label = static_cast<unsigned char>(keys_[at].first[node.depth]);
            if (children.empty() || children.back().first != label) children.emplace_back(label, at);
        }
        const auto base = find_base(children);
        units_[node.place].base |= base;
        for (const auto& [label, first] : children) units_[base ^ label].parent = node.place;
        skip_taken();
        for (std::size_t child = 0; child < children.size(); ++child) {
            const auto [label, first] = children[child];
            const auto end = child + 1 < children.size() ? children[child + 1].second : node.to;
            auto smallest = kNoToken;
            for (auto at = first; at < end; ++at) smallest = std::min(smallest, keys_[at].second);
            waiting_.push({smallest, base ^ label, first, end, node.depth + 1});
        }
    }

    std::uint32_t find_base(const Children& children) {
        const auto label = children.front().first;
        unsigned tries = 0;
        for (auto slot = free_from_; slot < units_.size() && tries < kMostTries; ++slot) {
            if (units_[slot].parent != kFree) continue;
            ++tries;
            const auto base = static_cast<std::uint32_t>(slot) ^ label;
            if (fits(base, children)) return base;
        }
        const auto base = static_cast<std::uint32_t>(units_.size());
        grow();
        return base;
    }

    // A base of 0 would make a leaf's children look like the root's; leaves have base 0.
    bool fits(std::uint32_t base, const Children& children) const {
        return base != 0 && std::all_of(children.begin(), children.end(), [&](const auto& child) {
            return units_[base ^ child.first].parent == kFree;
        });
    }

    void grow() {
        units_.resize(units_.size() + 256);
        tokens_.resize(units_.size(), kNoToken);
        skip_taken();
    }

    void skip_taken() {
        while (free_from_ < units_.size() && units_[free_from_].parent != kFree) ++free_from_;
    }

    static constexpr std::uint32_t kFree = ~std::uint32_t{0};
    static constexpr unsigned kMostTries = 48;

    const Keys& keys_;
    Large<Unit>& units_;
    Large<TokenId>& tokens_;
    std::size_t free_from_ = 0;
    std::priority_queue<Node> waiting_;
};

Trie::Trie(std::vector<std::pair<std::string_view, TokenId>> keys) : pairs_(65536) {
    std::sort(keys.begin(), keys.end());
    Builder(keys, units_, tokens_).build();
    const auto child_of = [this](std::uint32_t node, unsigned byte) -> std::uint32_t {
        const auto child = (units_[node].base & kBase) ^ byte;
        return units_[child].parent == node ? child : 0;
    };
    singles_.fill(kNoToken);
    for (unsigned first = 0; first < 256; ++first) {
        const auto node = child_of(0, first);
        if (node == 0) continue;
        singles_[first] = tokens_[node];
        const auto single = (units_[node].base & kAccepts) != 0 ? node : 0;
        for (unsigned second = 0; second < 256; ++second) {
            const auto child = child_of(node, second);
            const bool accepts = child != 0 && (units_[child].base & kAccepts) != 0;
            auto& entrance = pairs_[first << 8 | second];
            entrance.node = child;
            entrance.accepted = accepts ? child : single;
            entrance.length = accepts ? 2 : single != 0 ? 1 : 0;
        }
    }
}

}  // namespace rm_grpc
