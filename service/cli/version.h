// The version of this build.
#pragma once

namespace sluice {

const char* Version();  // "0.1.0"

}  // namespace sluice
