extension LambdaRuntime {
    /// Loads Python and `awslambdaric`, serves a few requests of nobody, asks the agent which function it is, and becomes what
    /// `python3 -m awslambdaric HANDLER` would be.
    ///
    /// What Python reads when it starts cannot be changed afterwards: a function that sets such a variable gets a fresh process, which
    /// runs this program with the function's arguments.
    ///
    /// A restored instance seeds `random` and `numpy.random` anew, and adds to OpenSSL's state, before it runs anything of the function.
    ///
    /// The rehearsal has everything that each request needs loaded, linked and specialized in the snapshot: a page that the first
    /// request of a restored instance does not touch for the first time costs it no fault of the guest's own. The client's address is
    /// fixed when its library is loaded, so the rehearsal's server has the same one in a network namespace of its own. Where any of
    /// that fails the first request is slower, and nothing else.
    static let pythonWarmStart = """
        import ctypes, gc, http.client, inspect, json, logging, decimal, os, runpy, socket, sys, time, traceback
        import awslambdaric.bootstrap, awslambdaric.lambda_config, awslambdaric.lambda_runtime_client
        import runtime_client, simplejson, snapshot_restore_py

        def order():
            connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
            connection.request("GET", "/2018-06-01/runtime/aurora/start")
            parts = connection.getresponse().read().split(b"\\0")
            connection.close()
            count = 3 + int(parts[2])
            return parts[0], parts[1], parts[3:count], dict(part.split(b"=", 1) for part in parts[count:])

        def become_user(numbers):
            if not numbers:
                return
            user, group, *groups = [int(number) for number in numbers.split()]
            # The log's pipe, which a program may open by its name.
            for stream in (1, 2):
                os.fchown(stream, user, group)
            os.setgroups(groups)
            os.setgid(group)
            os.setuid(user)
            # PR_SET_DUMPABLE: what /proc says of this process is its own user's again.
            ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)

        def at_start(environment):
            names = (b"PYTHON", b"LD_", b"LC_", b"LANG", b"MALLOC_", b"GLIBC_", b"AWS_LAMBDA_LOG_LEVEL", b"AWS_LAMBDA_LOG_FORMAT")
            return {name: value for name, value in environment.items() if name.startswith(names)}

        \(pythonRehearsal)
        \(pythonRenewal)

        def become_function():
            rehearse()
            gc.collect()
            gc.freeze()
            directory, numbers, arguments, environment = order()
            become_user(numbers)
            os.chdir(directory)
            if arguments[1:3] != [b"-m", b"awslambdaric"]:
                os.execve(arguments[0], arguments, environment)
            if at_start(environment) != at_start(os.environb):
                os.execve(arguments[0], arguments[:1] + [os.fsencode(__file__)] + arguments[3:], environment)
            os.environb.clear()
            os.environb.update(environment)
            time.tzset()
            return [os.fsdecode(argument) for argument in arguments[3:]]

        sys.argv = ["awslambdaric"] + (sys.argv[1:] or become_function())
        if not sys.flags.safe_path:
            sys.path[0] = os.getcwd()
        renew_when_restored()
        del order, become_user, at_start, rehearse, rehearse_requests, answer_requests, become_function, renew_when_restored
        runpy.run_module("awslambdaric", run_name="__main__", alter_sys=True)
        """

    /// `renew_when_restored`: the generators that Python code draws from are seeded anew when an instance goes on from the snapshot,
    /// before hooks and handler of the function run.
    ///
    /// Only those that were loaded; a fixed seed that the function had chosen is gone, too. The snapshot is taken when the runtime
    /// asks for its restore or, without them, for its first request.
    private static let pythonRenewal = #"""
        def renew_generators():
            renewals = {
                "random": lambda module: module.seed(),
                "numpy.random": lambda module: module.seed(),
                "ssl": lambda module: module.RAND_add(os.urandom(64), 64),
            }
            for name, renew in renewals.items():
                try:
                    if name in sys.modules:
                        renew(sys.modules[name])
                except Exception:
                    traceback.print_exc()

        def renew_when_restored():
            if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
                return snapshot_restore_py.register_after_restore(renew_generators)
            client = awslambdaric.lambda_runtime_client.LambdaRuntimeClient
            wait = client.wait_next_invocation

            def wait_first(self):
                request = wait(self)
                client.wait_next_invocation = wait
                renew_generators()
                return request

            client.wait_next_invocation = wait_first
        """#

    /// `rehearse`, and what it calls.
    private static let pythonRehearsal = #"""
        def answer_requests(listener):
            head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s"
            names = b"Lambda-Runtime-Aws-Request-Id: 0\r\nLambda-Runtime-Deadline-Ms: 4000000000000\r\n" \
                b"Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:none\r\n"
            while True:
                connection = listener.accept()[0]
                stream = connection.makefile("rb")
                while line := stream.readline():
                    length = 0
                    while (field := stream.readline().strip()):
                        if field.lower().startswith(b"content-length:"):
                            length = int(field.split(b":")[1])
                    stream.read(length)
                    event = b'{"key": "value"}'
                    is_next = line.startswith(b"GET")
                    connection.sendall(head % ((b"200 OK", len(event), names, event) if is_next else (b"202 Accepted", 0, b"", b"")))

        def rehearse_requests(address):
            handle = awslambdaric.bootstrap.handle_event_request
            client = awslambdaric.lambda_runtime_client.LambdaRuntimeClient(address)
            with awslambdaric.bootstrap.create_log_sink() as sink:
                # So many that Python has specialized its code.
                for _ in range(20):
                    request = client.wait_next_invocation()
                    known = dict(
                        vars(request), lambda_runtime_client=client, request_handler=lambda event, context: {"event": event}, log_sink=sink,
                        client_context_json=request.client_context, cognito_identity_json=request.cognito_identity,
                        epoch_deadline_time_in_ms=request.deadline_time_in_ms)
                    handle(**{name: known[name] for name in inspect.signature(handle).parameters})

        def rehearse():
            import fcntl, struct
            library = ctypes.CDLL(None)
            new_network = 0x40000000
            own = os.open("/proc/self/ns/net", os.O_RDONLY)
            server = 0
            if library.unshare(new_network):
                return os.close(own)
            try:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                    # SIOCSIFFLAGS: the loopback device is up and running.
                    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh22x", b"lo", 0x41))
                address = os.environ["AWS_LAMBDA_RUNTIME_API"]
                host, port = address.split(":")
                listener = socket.create_server((host, int(port)))
                server = os.fork()
                if server == 0:
                    try:
                        answer_requests(listener)
                    finally:
                        os._exit(0)
                listener.close()
                rehearse_requests(address)
            except Exception:
                traceback.print_exc()
            finally:
                if server:
                    os.kill(server, 9)
                    os.waitpid(server, 0)
                if library.setns(own, new_network):
                    os._exit(1)
                os.close(own)
        """#
}
