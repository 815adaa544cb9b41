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

    /// Makes a directory and those above it, for its owner alone.
    ///
    /// - Throws: `SystemError` naming the directory.
    public static func create(_ path: String) throws(SystemError) {
        var partial = ""
        for part in path.split(separator: "/") {
            partial += "/\(part)"
            let result = clinux_mkdir(partial, 0o700)
            guard result < 0, result != -Int(EEXIST) else { continue }
            // A directory above may be of a read-only file system or not ours to list; only the last one must be there.
            if partial.utf8.count < path.utf8.count, clinux_access(partial, F_OK) == 0 { continue }
            throw SystemError("create directory", partial, errno: Errno(rawValue: Int32(truncatingIfNeeded: -result)))
        }
    }
}
