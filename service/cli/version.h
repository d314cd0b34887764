// The version of this build.
#pragma once

namespace sluice {

const char* Version();  // "0.2.0"

}  // namespace sluice
