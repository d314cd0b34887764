// The functions of NVIDIA's management library that Sluice calls, for two made-up GPUs: the first
// counts its energy (100 J more at every call) and sits in a fast slot; the second only says what
// it draws (50 W), sits in a slow slot and knows neither its clocks nor its traffic.

#include <cstring>

namespace {

constexpr int kSuccess = 0;
constexpr int kNotSupported = 3;

char devices[2];

bool IsFirst(const void* device) { return device == &devices[0]; }

int Give(unsigned int* to, unsigned int value) {
  *to = value;
  return kSuccess;
}

}  // namespace

extern "C" {

int nvmlInit_v2() { return kSuccess; }
int nvmlShutdown() { return kSuccess; }

int nvmlDeviceGetCount_v2(unsigned int* count) { return Give(count, 2); }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void** device) {
  *device = &devices[index];
  return kSuccess;
}

int nvmlDeviceGetTotalEnergyConsumption(void* device, unsigned long long* millijoules) {
  static unsigned long long total = 5000;
  if (!IsFirst(device)) return kNotSupported;
  total += 100000;
  *millijoules = total;
  return kSuccess;
}

int nvmlDeviceGetPowerUsage(void* device, unsigned int* milliwatts) {
  return Give(milliwatts, IsFirst(device) ? 321500 : 50000);
}

int nvmlDeviceGetName(void* device, char* name, unsigned int length) {
  std::strncpy(name, IsFirst(device) ? "Fast card" : "Slow card", length);
  return kSuccess;
}

struct FakePciInfo {
  char bus_id_legacy[16];
  unsigned int numbers[5];
  char bus_id[32];
};
int nvmlDeviceGetPciInfo_v3(void* device, FakePciInfo* info) {
  std::memset(info, 0, sizeof(*info));
  std::strcpy(info->bus_id, IsFirst(device) ? "00000000:3B:00.0" : "00000000:AF:00.0");
  return kSuccess;
}

// An idle link, fallen back to generation 1.
int nvmlDeviceGetCurrPcieLinkGeneration(void*, unsigned int* generation) {
  return Give(generation, 1);
}
int nvmlDeviceGetCurrPcieLinkWidth(void* device, unsigned int* width) {
  return Give(width, IsFirst(device) ? 16 : 8);
}
int nvmlDeviceGetMaxPcieLinkGeneration(void* device, unsigned int* generation) {
  return Give(generation, IsFirst(device) ? 5 : 3);
}
int nvmlDeviceGetMaxPcieLinkWidth(void*, unsigned int* width) { return Give(width, 16); }
int nvmlDeviceGetGpuMaxPcieLinkGeneration(void*, unsigned int* generation) {
  return Give(generation, 5);
}

// Seven more at every call.
int nvmlDeviceGetPcieReplayCounter(void* device, unsigned int* replays) {
  static unsigned int total = 1000;
  if (!IsFirst(device)) return kNotSupported;
  total += 7;
  return Give(replays, total);
}
int nvmlDeviceGetPcieThroughput(void* device, int counter, unsigned int* kilobytes) {
  if (!IsFirst(device)) return kNotSupported;
  return Give(kilobytes, counter == 0 ? 2000 : 30000);
}
int nvmlDeviceGetClockInfo(void* device, int clock, unsigned int* megahertz) {
  if (!IsFirst(device)) return kNotSupported;
  return Give(megahertz, clock == 2 ? 2619 : 1980);
}

}  // extern "C"
