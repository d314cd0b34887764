// The window of a simulation as a Gantt chart: what the device and the links did, and where the
// requests of the window were.
#pragma once

#include "service/report/chart.h"
#include "service/simulation/simulation.h"

namespace sluice {

GanttChart WindowChart(const SimulationResult& result);

}  // namespace sluice
