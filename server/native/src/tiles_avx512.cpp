#if defined(__x86_64__)
#define RM_GRPC_LANES 16
#define RM_GRPC_ROWS 12
#include "attention_tiles.h"
#include "linear_tiles.h"

namespace rm_grpc {

void attend_head_avx512(const HeadRun& run) { attend_head(run); }
void multiply_rows_avx512(const RowsByPanels& part) { multiply_rows(part); }

}  // namespace rm_grpc
#endif
