// SPDX-License-Identifier: BSD-3-Clause
// usage: map_benchmark THREADS SECONDS: Linux's own DMA mapping benchmark on the device that is
// bound to it, one page at a time; prints the averages that it computed.
// source  Linux include/uapi/linux/map_benchmark.h (kernel/dma/map_benchmark.c)
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

struct map_benchmark {
  uint64_t avg_map_100ns, map_stddev, avg_unmap_100ns, unmap_stddev;
  uint32_t threads, seconds;
  int32_t node;
  uint32_t dma_bits, dma_dir, dma_trans_ns, granule;
  uint8_t expansion[76];
};

#define DMA_MAP_BENCHMARK _IOWR('d', 1, struct map_benchmark)

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  struct map_benchmark b = {.threads = (uint32_t)atoi(argv[1]),
                            .seconds = (uint32_t)atoi(argv[2]),
                            .node = -1,
                            .dma_bits = 32,
                            .granule = 1};
  const int fd = open("/sys/kernel/debug/dma_map_benchmark", O_RDWR);
  if (fd < 0 || ioctl(fd, DMA_MAP_BENCHMARK, &b) != 0) {
    perror("dma_map_benchmark");
    return 1;
  }
  printf("benchmark threads=%u map_us=%.1f unmap_us=%.1f\n", b.threads,
         (double)b.avg_map_100ns / 10, (double)b.avg_unmap_100ns / 10);
  return 0;
}
