// The page of one model.

import { drawHeader } from "/console/files/api.js";

drawHeader();
