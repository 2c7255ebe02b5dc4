// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
/*
 * The guest's driver of a soft device: its BAR 2 is the device's DMA engine
 * (kernel/soft/dma_bar.h), shown to the guest as an ivshmem-plain device. What is written to the
 * attribute `run` is done at once; `result` then says, on one line, what came of it.
 *
 *   latency N PAGES    map and unmap N times or for a second, percentiles of both
 *   dma N FAULTS       N buffers: the device reads and writes each through its mapping; every
 *                      FAULTS-th is tried again after the unmap, which has to fault (0: none)
 *   fault N IOVA       N writes to an address that is not mapped
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/sort.h>
#include <linux/vmalloc.h>

#define FL_MAGIC 0x464c4d44
#define FL_ENTRIES 512
#define FL_REQUESTS 0x1000
#define FL_COMPLETIONS 0x8000
#define FL_BUSY_MS 20000

enum {
  FL_REQUEST_HEAD = 64,
  FL_REQUEST_TAIL = 128,
  FL_COMPLETION_HEAD = 192,
  FL_COMPLETION_TAIL = 256
};
enum { FL_OK = 1, FL_FAULTED = 2 };

struct fl_request {
  u64 iova, value;
  u8 length, flags;
  u16 unused;
  u32 ssid;
  u64 cookie;
};

struct fl_completion {
  u64 cookie, value;
  u8 status, flags;
  u16 unused;
  u32 unused2;
  u64 timestamp_ns;
};

struct fl_device {
  struct pci_dev* pci;
  struct mutex lock; /* of the ring */
  void* bar;         /* NULL: a device without an engine */
  u64 head, tail;
  char result[256];
};

/* One access, waited for. Returns the status the device gave, or a negative error. */
static int fl_access(struct fl_device* fl, u64 iova, bool write, u64* value) {
  struct fl_request request = {
      .iova = iova, .value = *value, .length = 8, .flags = write, .cookie = fl->head};
  struct fl_completion done;
  ktime_t limit = ktime_add_ms(ktime_get(), FL_BUSY_MS);
  unsigned int spins = 0;

  memcpy(fl->bar + FL_REQUESTS + (fl->head % FL_ENTRIES) * sizeof(request), &request,
         sizeof(request));
  smp_store_release((u64*)(fl->bar + FL_REQUEST_HEAD), ++fl->head);
  while (smp_load_acquire((u64*)(fl->bar + FL_COMPLETION_HEAD)) == fl->tail) {
    if (ktime_after(ktime_get(), limit)) return -ETIMEDOUT;
    if (++spins > 200) usleep_range(20, 50);
  }
  memcpy(&done, fl->bar + FL_COMPLETIONS + (fl->tail % FL_ENTRIES) * sizeof(done), sizeof(done));
  smp_store_release((u64*)(fl->bar + FL_COMPLETION_TAIL), ++fl->tail);
  if (done.cookie != request.cookie) return -EIO;
  *value = done.value;
  return done.status;
}

static int fl_compare(const void* a, const void* b) {
  u32 x = *(const u32*)a, y = *(const u32*)b;

  return x < y ? -1 : x > y;
}

static int fl_latency(struct fl_device* fl, unsigned int n, unsigned int pages) {
  struct device* dev = &fl->pci->dev;
  unsigned int order = get_order(pages * PAGE_SIZE), i;
  u32* map = vmalloc(array_size(n, sizeof(u32)));
  u32* unmap = vmalloc(array_size(n, sizeof(u32)));
  void* buffer = (void*)__get_free_pages(GFP_KERNEL, order);
  ktime_t limit = ktime_add_ms(ktime_get(), 1000);
  int error = -ENOMEM;

  if (!map || !unmap || !buffer) goto out;
  for (i = 0; i < n; i++) {
    u64 t0 = ktime_get_ns(), t1;
    dma_addr_t at = dma_map_single(dev, buffer, pages * PAGE_SIZE, DMA_BIDIRECTIONAL);

    error = dma_mapping_error(dev, at);
    if (error) goto out;
    t1 = ktime_get_ns();
    dma_unmap_single(dev, at, pages * PAGE_SIZE, DMA_BIDIRECTIONAL);
    unmap[i] = ktime_get_ns() - t1;
    map[i] = t1 - t0;
    if (i % 64 == 0) cond_resched();
    if (ktime_after(ktime_get(), limit)) n = i + 1;
  }
  sort(map, n, sizeof(u32), fl_compare, NULL);
  sort(unmap, n, sizeof(u32), fl_compare, NULL);
  snprintf(fl->result, sizeof(fl->result),
           "latency n=%u pages=%u map_p50=%u unmap_p50=%u unmap_p99=%u unmap_p999=%u unmap_max=%u",
           n, pages, map[n / 2], unmap[n / 2], unmap[n - 1 - n / 100], unmap[n - 1 - n / 1000],
           unmap[n - 1]);
out:
  free_pages((unsigned long)buffer, order);
  vfree(map);
  vfree(unmap);
  return error;
}

static int fl_dma(struct fl_device* fl, unsigned int n, unsigned int faults) {
  struct device* dev = &fl->pci->dev;
  unsigned int i, read = 0, written = 0, wrong = 0, faulted = 0, stale = 0, refused = 0;
  int error = 0;

  for (i = 0; i < n && !error; i++) {
    u64* page = (u64*)get_zeroed_page(GFP_KERNEL);
    u64 told = 0x5eed000000000000ULL + i, value = 0;
    dma_addr_t at;
    int status;

    if (!page) return -ENOMEM;
    page[0] = told;
    at = dma_map_single(dev, page, PAGE_SIZE, DMA_BIDIRECTIONAL);
    error = dma_mapping_error(dev, at);
    if (error) goto next;
    status = fl_access(fl, at, false, &value);
    if (status < 0)
      error = status;
    else if (status != FL_OK)
      refused++;
    else if (value != told)
      wrong++;
    else
      read++;
    value = ~told;
    if (!error) status = fl_access(fl, at + 64, true, &value);
    dma_unmap_single(dev, at, PAGE_SIZE, DMA_BIDIRECTIONAL);
    if (status < 0)
      error = status;
    else if (status != FL_OK)
      refused++;
    else if (READ_ONCE(page[8]) != ~told)
      wrong++;
    else
      written++;
    /* The unmap returned: its CMD_SYNC is complete, the device must not reach the page. */
    if (!error && faults && i % faults == 0) {
      page[16] = 0;
      value = 0xbad;
      status = fl_access(fl, at + 128, true, &value);
      if (status < 0)
        error = status;
      else if (status == FL_FAULTED)
        faulted++;
      else if (status == FL_OK || READ_ONCE(page[16]))
        stale++;
    }
  next:
    free_page((unsigned long)page);
  }
  snprintf(fl->result, sizeof(fl->result),
           "dma n=%u read=%u written=%u wrong=%u refused=%u faulted=%u stale=%u", n, read, written,
           wrong, refused, faulted, stale);
  return error;
}

static int fl_fault(struct fl_device* fl, unsigned int n, u64 iova) {
  unsigned int i, faulted = 0;

  for (i = 0; i < n; i++) {
    u64 value = i;
    int status = fl_access(fl, iova, true, &value);

    if (status < 0) return status;
    faulted += status == FL_FAULTED;
  }
  snprintf(fl->result, sizeof(fl->result), "fault n=%u faulted=%u", n, faulted);
  return 0;
}

static ssize_t run_store(struct device* dev, struct device_attribute* attr, const char* text,
                         size_t size) {
  struct fl_device* fl = dev_get_drvdata(dev);
  char verb[16];
  u64 a, b = 0;
  int error = -EINVAL;

  if (sscanf(text, "%15s %lli %lli", verb, &a, &b) < 2 || a == 0 || a > 10000000) return -EINVAL;
  mutex_lock(&fl->lock);
  if (!strcmp(verb, "latency") && b >= 1 && b <= 16)
    error = fl_latency(fl, a, b);
  else if (!fl->bar)
    error = -ENODEV;
  else if (!strcmp(verb, "dma"))
    error = fl_dma(fl, a, b);
  else if (!strcmp(verb, "fault"))
    error = fl_fault(fl, a, b);
  mutex_unlock(&fl->lock);
  return error ? error : size;
}
static DEVICE_ATTR_WO(run);

static ssize_t result_show(struct device* dev, struct device_attribute* attr, char* out) {
  struct fl_device* fl = dev_get_drvdata(dev);

  return sysfs_emit(out, "%s\n", fl->result);
}
static DEVICE_ATTR_RO(result);

static struct attribute* fl_attrs[] = {&dev_attr_run.attr, &dev_attr_result.attr, NULL};
ATTRIBUTE_GROUPS(fl);

static int fl_probe(struct pci_dev* pci, const struct pci_device_id* id) {
  struct fl_device* fl = devm_kzalloc(&pci->dev, sizeof(*fl), GFP_KERNEL);
  int error;

  if (!fl) return -ENOMEM;
  fl->pci = pci;
  mutex_init(&fl->lock);
  error = pcim_enable_device(pci);
  if (!error) error = dma_set_mask_and_coherent(&pci->dev, DMA_BIT_MASK(44));
  if (error) return error;
  pci_set_master(pci);
  /* Prefetchable memory: cacheable, so that 64-bit accesses and their order are plain. */
  fl->bar =
      devm_memremap(&pci->dev, pci_resource_start(pci, 2), pci_resource_len(pci, 2), MEMREMAP_WB);
  if (IS_ERR(fl->bar)) return PTR_ERR(fl->bar);
  if (READ_ONCE(*(u32*)fl->bar) == FL_MAGIC) {
    fl->head = READ_ONCE(*(u64*)(fl->bar + FL_REQUEST_HEAD));
    fl->tail = READ_ONCE(*(u64*)(fl->bar + FL_COMPLETION_TAIL));
  } else {
    fl->bar = NULL;
  }
  pci_set_drvdata(pci, fl);
  return 0;
}

static const struct pci_device_id fl_ids[] = {{PCI_DEVICE(0x1af4, 0x1110)}, {}};
MODULE_DEVICE_TABLE(pci, fl_ids);

static struct pci_driver fl_driver = {
    .name = "fl_dma",
    .id_table = fl_ids,
    .probe = fl_probe,
    .dev_groups = fl_groups,
};
module_pci_driver(fl_driver);
MODULE_DESCRIPTION("DMA through a virtual SMMU, checked");
MODULE_LICENSE("Dual BSD/GPL");
