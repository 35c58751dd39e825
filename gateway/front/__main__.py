"""The program of a front process. The supervisor starts it as `python -m gateway.front`."""

from gateway.process.imports import import_for_front

if __name__ == "__main__":
    import_for_front()  # before anything imports these libraries in the usual way
    from gateway.front.process import main

    main()
