internal import CLinux
public import Linux

/// Where Aurora keeps what it makes (data) and where its running groups have their sockets (runtime).
public struct DataDirectory: Sendable, Hashable {
    /// Kernel, images and groups: `$AURORA_HOME`, else the usual place of the user.
    public let path: String
    /// Sockets of running groups: `$AURORA_RUNTIME`, else the usual place of the user.
    public let runtimePath: String

    /// The store's file or block device: `$AURORA_STORE`, else `store` in the data directory.
    public let storePath: String

    /// The store of this data directory when nothing else is said.
    public var ownStorePath: String { "\(path)/store" }

    /// The store as a group has to remember it, so that commands find it without `$AURORA_STORE`; nil for the directory's own.
    public var foreignStorePath: String? { storePath == ownStorePath ? nil : storePath }

    /// The store of a group that exists: the one it was started with, whatever `$AURORA_STORE` says now.
    public func storePath(of configuration: GroupConfiguration) -> String { configuration.storePath ?? ownStorePath }

    /// Names two directories.
    public init(path: String, runtimePath: String, storePath: String? = nil) {
        self.path = path
        self.runtimePath = runtimePath
        self.storePath = storePath ?? "\(path)/store"
    }

    /// Finds the directories from environment variables, as the XDG base directory specification and the FHS have it.
    public init(environment: [String: String], isRoot: Bool = DataDirectory.runsAsRoot) {
        func value(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
        let home = value("HOME") ?? "/"
        path = value("AURORA_HOME") ?? (isRoot ? "/var/lib/aurora" : "\(value("XDG_DATA_HOME") ?? "\(home)/.local/share")/aurora")
        runtimePath =
            value("AURORA_RUNTIME")
            ?? (isRoot ? "/run/aurora" : value("XDG_RUNTIME_DIR").map { "\($0)/aurora" } ?? "/tmp/aurora-\(getuid())")
        storePath = value("AURORA_STORE").map(DataDirectory.absolute) ?? "\(path)/store"
    }

    private static func absolute(_ path: String) -> String {
        guard !path.hasPrefix("/"), let here = getcwd(nil, 0) else { return path }
        defer { free(here) }
        return "\(String(cString: here))/\(path)"
    }

    /// Whether this process is root's.
    public static var runsAsRoot: Bool { getuid() == 0 }

    /// What the users of stores share while the host runs; no group can have this name.
    public var storeRuntimePath: String { "\(runtimePath)/.store" }
    /// `groups`, the directory of all groups.
    public var groupsPath: String { "\(path)/groups" }
    /// The directory of one group.
    public func groupPath(_ name: GroupName) -> String { "\(groupsPath)/\(name)" }
    /// The directory of one group's sockets.
    public func runtimePath(_ name: GroupName) -> String { "\(runtimePath)/\(name)" }
    /// `kernel/current`: `vmlinux`, `modules`, `manifest.json`.
    public var kernelPath: String { "\(path)/kernel/current" }
    /// `launch`, the launch images of functions: a cache of what is in the store.
    public var launchPath: String { "\(path)/launch" }
    /// `working-sets`: of each history, what restores from it fetch ahead.
    public var workingSetsPath: String { "\(path)/working-sets" }
    /// The directory of one image: `root.ext4`, `manifest.json`.
    public func imagePath(_ image: String) -> String { "\(path)/images/\(image)" }

    /// Checks the runtime directory, if it is there: who else could write there could put a socket of his own in a group's place.
    ///
    /// - Throws: `GroupError` (`.host`) saying what is wrong with it, and what can be done.
    public func checkRuntime() throws(GroupError) {
        do throws(PrivateDirectory.Fault) {
            try PrivateDirectory.check(runtimePath, .mayRead)
            try PrivateDirectory.check(storeRuntimePath)
        } catch { throw refusal(error) }
    }

    /// Makes a directory for sockets or shared memory: the runtime directory itself, or one in it.
    ///
    /// - Throws: `GroupError` (`.host`) when it cannot be made, or when others can get at it.
    public func makeRuntime(_ path: String) throws(GroupError) {
        do throws(PrivateDirectory.Fault) {
            try PrivateDirectory.ensure(runtimePath, .mayRead)
            guard path != runtimePath else { return }
            try PrivateDirectory.ensure(path)
        } catch { throw refusal(error) }
    }

    private func refusal(_ fault: PrivateDirectory.Fault) -> GroupError {
        let remedy =
            switch fault {
            case .system: "Set AURORA_RUNTIME to a directory you can write to."
            case .noDirectory, .foreign: "Remove it, or set AURORA_RUNTIME to a directory of your own."
            case .open(let path, _):
                "Close it with: chmod 700 \(path). If others had been able to write there for long, see what is in it first; "
                    + "or set AURORA_RUNTIME to another directory."
            }
        return GroupError(.host, "The runtime directory cannot be trusted: \(fault)", remedy: remedy)
    }

    /// What older versions left open to other users below the data directory, and in the runtime directory, is closed.
    public func tighten() {
        for name in ["functions", "groups", "images", "kernel", "launch", "logs", "working-sets"] {
            PrivateDirectory.tighten("\(path)/\(name)")
        }
        PrivateDirectory.tighten(storeRuntimePath)
    }

    /// Makes a directory and those above it, for its owner alone.
    ///
    /// - Throws: `SystemError` naming the directory.
    public static func create(_ path: String) throws(SystemError) { try PrivateDirectory.create(path) }
}
