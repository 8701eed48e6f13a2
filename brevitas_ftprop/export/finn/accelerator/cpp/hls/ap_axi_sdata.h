// Vitis HLS' streams with side channels, which finn-hlslib names and no layer here uses.

#pragma once

template <int Data, int User, int Id, int Dest>
struct qdma_axis;
