// Memory for large tables that are read at random: in pages of 2 MB where the system has them, which spares most of the misses
// of the translation buffer.
#pragma once

#include <cstdlib>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace rm_grpc {

template <class T>
struct LargeAllocator {
    using value_type = T;

    LargeAllocator() = default;
    template <class U>
    LargeAllocator(const LargeAllocator<U>&) {}

    T* allocate(std::size_t count) {
        const auto bytes = count * sizeof(T);
        if (bytes < kPage) return static_cast<T*>(::operator new(bytes, std::align_val_t{kLine}));
        const auto whole = (bytes + kPage - 1) / kPage * kPage;
        auto* const found = std::aligned_alloc(kPage, whole);
        if (found == nullptr) throw std::bad_alloc();
#if defined(__linux__)
        madvise(found, whole, MADV_HUGEPAGE);  // a wish, which the system may leave unheard
#endif
        return static_cast<T*>(found);
    }

    void deallocate(T* held, std::size_t count) {
        if (count * sizeof(T) < kPage)
            ::operator delete(held, std::align_val_t{kLine});
        else
            std::free(held);
    }

    template <class U>
    bool operator==(const LargeAllocator<U>&) const {
        return true;
    }

  private:
    static constexpr std::size_t kPage = std::size_t{2} << 20, kLine = 64;
};

template <class T>
using Large = std::vector<T, LargeAllocator<T>>;

}  // namespace rm_grpc
