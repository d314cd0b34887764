# Finds nvcc and enables CUDA. Included by the top folder when SLUICE_CUDA is ON; needs no GPU.
#
# sm_80, sm_90 and sm_100 as machine code (which runs on 8.x, 9.x and 10.x), and PTX for what comes.
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  find_program(SLUICE_NVCC nvcc HINTS $ENV{CUDA_PATH}/bin /usr/local/cuda/bin)
  if(SLUICE_NVCC)
    set(CMAKE_CUDA_COMPILER ${SLUICE_NVCC})
  endif()
endif()
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(FATAL_ERROR "SLUICE_CUDA=ON: no nvcc found. Install the CUDA toolkit (13.0 or later) and put \
nvcc on the PATH, or pass -DCMAKE_CUDA_COMPILER=/path/to/nvcc; the release preset needs none")
endif()
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100-real 100-virtual)
endif()
if(SLUICE_CCACHE AND NOT DEFINED CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${SLUICE_CCACHE})
endif()
enable_language(CUDA)
# CMake 3.25 does not know C++20 for nvcc: asked for it, it fails; not required, it passes nothing.
set(CMAKE_CUDA_STANDARD_REQUIRED OFF)
string(APPEND CMAKE_CUDA_FLAGS " -std=c++20")
find_package(CUDAToolkit 13.0 REQUIRED)
