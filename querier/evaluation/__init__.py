"""How a run is judged: help, dependence on the querier, cold start, and intervals over queriers."""
