// The functions of NVIDIA's management library that Sluice calls, for two made-up GPUs: the first
// counts its energy (100 J more at every call), the second only says what it draws (50 W).

extern "C" {

int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }

int nvmlDeviceGetCount_v2(unsigned int* count) {
  *count = 2;
  return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void** device) {
  static char devices[2];
  *device = &devices[index];
  return 0;
}

static bool IsFirst(void* device) {
  void* first = nullptr;
  nvmlDeviceGetHandleByIndex_v2(0, &first);
  return device == first;
}

int nvmlDeviceGetTotalEnergyConsumption(void* device, unsigned long long* millijoules) {
  static unsigned long long total = 5000;
  if (!IsFirst(device)) return 3;  // NOT_SUPPORTED
  total += 100000;
  *millijoules = total;
  return 0;
}

int nvmlDeviceGetPowerUsage(void* device, unsigned int* milliwatts) {
  *milliwatts = IsFirst(device) ? 321500 : 50000;
  return 0;
}

}  // extern "C"
