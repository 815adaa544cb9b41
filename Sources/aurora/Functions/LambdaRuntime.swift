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
        name == "python3" ? try PackageRequest.list("python3,ca-certificates,tzdata") : []
    }

    /// The Python packages of its image.
    func wheels() throws(ImageError) -> [PipRequest] { name == "python3" ? try PipRequest.list("awslambdaric") : [] }

    /// The program that serves a function's requests.
    func command(handler: String) -> [String] {
        name == "python3" ? ["/usr/bin/python3", "-m", "awslambdaric", handler] : ["/var/task/bootstrap"]
    }

    /// What the guest has in a file for its processes to load: the warm start, or what every Node loads.
    var preload: (path: String, text: String) {
        warmStart.isEmpty ? ("/var/runtime/node.cjs", LambdaRuntime.nodePreload) : ("/var/runtime/warm", warmStart)
    }

    /// The program that runs `warmStart`.
    var warmCommand: [String] { ["/usr/bin/python3", preload.path] }

    /// What all functions find in their environment unless a deployment says otherwise.
    static let commonEnvironment = [
        "PATH": "/var/task/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin", "LANG": "C.UTF-8", "TZ": ":UTC",
        "HOME": "/tmp", "LD_LIBRARY_PATH": "/var/task:/var/task/lib",
    ]

    /// Numbers of the user and group that Lambda has functions run as.
    static let userNumbers = (user: 993, group: 990)

    /// Who a function's processes run as, for the agent: empty for root.
    static func user(_ plan: FunctionPlan) -> String {
        let user = plan.user ?? FunctionPlan.userDefault
        return ["root", "0", "0:0", "root:root"].contains(user) ? "" : user
    }

    /// The environment that Lambda documents, over which a deployment's own goes where Lambda allows it.
    func environment(_ plan: FunctionPlan) -> [String] {
        var all = LambdaRuntime.commonEnvironment
        if LambdaRuntime.user(plan).isEmpty { all["HOME"] = "/root" }
        all.merge(plan.environment) { $1 }
        let memory = plan.function.memoryBytes >> 20
        let reserved = [
            "_HANDLER": plan.handler, "LAMBDA_TASK_ROOT": "/var/task", "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "AWS_LAMBDA_FUNCTION_NAME": plan.function.name, "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "\(memory)", "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/\(plan.function.name)",
            "AWS_LAMBDA_LOG_STREAM_NAME": plan.function.revision,
            "AWS_LAMBDA_INITIALIZATION_TYPE": plan.isSnapStart ? "snap-start" : "on-demand",
        ]
        if warmStart.isEmpty { all.merge(["NODE_OPTIONS": "--require=\(preload.path)"]) { own, _ in own } }
        all.merge(["AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"]) { own, _ in own }
        all.merge(reserved) { $1 }
        all.merge(plan.reserved ?? [:]) { $1 }
        return all.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
    }
}
