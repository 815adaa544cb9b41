import Functions
import Images

/// A runtime that functions can be written for.
struct LambdaRuntime {
    /// Its name in a deployment.
    let name: String
    /// The image it comes in unless a deployment names another.
    let image: String
    /// The program that loads the runtime before it knows its function; empty: it is started for each function.
    let warmStart: String

    /// Finds a runtime.
    ///
    /// - Throws: `FunctionBuildError.invalidPlan` that lists those there are.
    init(_ name: String) throws(FunctionBuildError) {
        self.name = name
        switch name {
        case "python3":
            image = "python3"
            warmStart = LambdaRuntime.pythonWarmStart
        case "provided":
            image = "base"
            warmStart = ""
        default: throw .invalidPlan("there is no runtime \"\(name.prefix(40))\": write python3 or provided")
        }
    }

    /// The Debian packages of its image.
    func packages() throws(ImageError) -> [PackageRequest] {
        name == "python3" ? try PackageRequest.list("python3,ca-certificates") : []
    }

    /// The Python packages of its image.
    func wheels() throws(ImageError) -> [PipRequest] { name == "python3" ? try PipRequest.list("awslambdaric") : [] }

    /// The program that serves a function's requests.
    func command(handler: String) -> [String] {
        name == "python3" ? ["/usr/bin/python3", "-m", "awslambdaric", handler] : ["/var/task/bootstrap"]
    }

    /// The program that runs `warmStart`.
    var warmCommand: [String] { ["/usr/bin/python3", "/var/runtime/warm"] }

    /// What all functions find in their environment unless a deployment says otherwise.
    static let commonEnvironment = [
        "PATH": "/var/task/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin", "LANG": "C.UTF-8", "TZ": ":UTC",
        "HOME": "/root", "LD_LIBRARY_PATH": "/var/task:/var/task/lib",
    ]

    /// The environment that Lambda documents, over which a deployment's own goes where Lambda allows it.
    func environment(_ plan: FunctionPlan) -> [String] {
        var all = LambdaRuntime.commonEnvironment.merging(plan.environment) { $1 }
        let memory = plan.function.memoryBytes >> 20
        let reserved = [
            "_HANDLER": plan.handler, "LAMBDA_TASK_ROOT": "/var/task", "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "AWS_LAMBDA_FUNCTION_NAME": plan.function.name, "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "\(memory)", "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/\(plan.function.name)",
            "AWS_LAMBDA_LOG_STREAM_NAME": plan.function.revision,
            "AWS_LAMBDA_INITIALIZATION_TYPE": plan.isSnapStart ? "snap-start" : "on-demand",
        ]
        all.merge(["AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"]) { own, _ in own }
        all.merge(reserved) { $1 }
        return all.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
    }
}

extension LambdaRuntime {
    /// Loads Python and `awslambdaric`, asks the agent which function it is, and becomes what `python3 -m awslambdaric HANDLER` would be.
    ///
    /// What Python reads when it starts cannot be changed afterwards: a function that sets such a variable gets a fresh process.
    static let pythonWarmStart = """
        import gc, http.client, json, logging, decimal, os, runpy, sys, time
        import awslambdaric.bootstrap, awslambdaric.lambda_config, awslambdaric.lambda_runtime_client
        import runtime_client, simplejson, snapshot_restore_py

        def order():
            connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
            connection.request("GET", "/2018-06-01/runtime/aurora/start")
            parts = connection.getresponse().read().split(b"\\0")
            connection.close()
            count = 2 + int(parts[1])
            return parts[0], parts[2:count], dict(part.split(b"=", 1) for part in parts[count:])

        def at_start(environment):
            names = (b"PYTHON", b"LD_", b"LC_", b"LANG", b"MALLOC_", b"GLIBC_", b"AWS_LAMBDA_LOG_LEVEL", b"AWS_LAMBDA_LOG_FORMAT")
            return {name: value for name, value in environment.items() if name.startswith(names)}

        gc.collect()
        gc.freeze()
        directory, arguments, environment = order()
        os.chdir(directory)
        if arguments[1:3] != [b"-m", b"awslambdaric"] or at_start(environment) != at_start(os.environb):
            os.execve(arguments[0], arguments, environment)
        os.environb.clear()
        os.environb.update(environment)
        time.tzset()
        sys.path[0] = os.getcwd()
        sys.argv = [os.fsdecode(argument) for argument in arguments[2:]]
        del order, at_start, directory, arguments, environment
        runpy.run_module("awslambdaric", run_name="__main__", alter_sys=True)
        """
}
