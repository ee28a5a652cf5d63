"""How OTCache is calibrated, by effort: from a recording alone to searches on the real model."""
