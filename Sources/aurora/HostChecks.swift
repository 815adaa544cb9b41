import AuroraVMM
import CLinux
import FoundationEssentials
import Groups
import Images
import Linux
import Store

/// What `doctor` looks at, one function a matter.
enum HostChecks {
    /// How good a finding is.
    enum Verdict: String, Encodable {
        case ok
        case warn
        case fail
    }

    /// One matter: what was found and what can be done.
    struct Finding: Encodable {
        let verdict: Verdict
        let what: String
        let found: String
        let remedy: String?

        init(_ verdict: Verdict, _ what: String, _ found: String, remedy: String? = nil) {
            self.verdict = verdict
            self.what = what
            self.found = found
            self.remedy = remedy
        }
    }

    static func all() -> [Finding] {
        [
            kvm(), isolation(), dirtyRing(), tun(), namespaces(), memory(), dataDirectory(), disk(), fileSize(), runtimeDirectory(),
            limits(), kernel(),
            baseImage(),
        ]
    }

    private static func kvm() -> Finding {
        let what = "KVM"
        do throws(MachineError) {
            let system = try KVMSystem()
            let kind = try KVMKind.probe(system)
            let text = kind == .hardware ? "hardware virtualization" : "ring 0 is emulated"
            return Finding(.ok, what, "/dev/kvm, \(text); guests run in \(kind.preferredMode.rawValue) mode")
        } catch {
            return Finding(.fail, what, "\(error)")
        }
    }

    /// What a guest of this host does not keep apart: nobody should have to find it out.
    private static func isolation() -> Finding {
        let what = "isolation in a guest"
        guard let system = try? KVMSystem(), let kind = try? KVMKind.probe(system),
            let isolation = GroupIsolation(mode: kind.preferredMode.rawValue, setting: nil)
        else { return Finding(.warn, what, "not known without KVM") }
        return isolation == .hardware
            ? Finding(.ok, what, isolation.meaning)
            : Finding(
                .warn, what, isolation.meaning,
                remedy: "Give those who distrust each other groups of their own, or use --isolation strict (slower): docs/threat-model.md.")
    }

    private static func dirtyRing() -> Finding {
        let what = "dirty ring"
        guard let system = try? KVMSystem() else { return Finding(.warn, what, "not known without KVM") }
        let entries = system.capability(KVM_CAP_DIRTY_LOG_RING_ACQ_REL)
        return entries > 0
            ? Finding(.ok, what, "up to \(entries) bytes a processor")
            : Finding(
                .warn, what, "not offered by this kernel; checkpoints will use the slower dirty log", remedy: "Use Linux 5.18 or newer.")
    }

    private static func tun() -> Finding {
        let path = "/dev/net/tun"
        do throws(SystemError) {
            _ = try OwnedDescriptor.open(path, O_RDWR)
            return Finding(.ok, "network device", "\(path) can be opened")
        } catch {
            let remedy =
                error.errno == .noEntry
                ? "Load it with: modprobe tun. Without it groups run, but have no network; published ports go through the agent."
                : "Give this user access to \(path), or run as root. Without it published ports go through the agent."
            return Finding(.warn, "network device", "\(error)", remedy: remedy)
        }
    }

    private static func namespaces() -> Finding {
        let what = "network namespaces"
        if DataDirectory.runsAsRoot { return Finding(.ok, what, "root may make them") }
        let path = "/proc/sys/user/max_user_namespaces"
        let limit = (try? String(contentsOfFile: path, encoding: .utf8)).flatMap { Int($0.filter(\.isNumber)) } ?? 0
        return limit > 0
            ? Finding(.ok, what, "this user may make them in user namespaces (\(path) is \(limit))")
            : Finding(.warn, what, "user namespaces are off", remedy: "Turn them on with: sysctl user.max_user_namespaces=10000")
    }

    private static func memory() -> Finding {
        let bytes = MemorySize.hostBytes
        let text = MemorySize.format(bytes)
        return bytes >= 2 << 30
            ? Finding(.ok, "memory", text) : Finding(.warn, "memory", text, remedy: "Small groups only; use --memory 64M to 256M.")
    }

    private static func dataDirectory() -> Finding {
        let path = CommandContext.data.path
        do throws(SystemError) {
            try DataDirectory.create("\(path)/groups")
        } catch {
            return Finding(.fail, "data directory", "\(error)", remedy: "Set AURORA_HOME to a directory you can write to.")
        }
        return clinux_access("\(path)/groups", W_OK) == 0
            ? Finding(.ok, "data directory", path)
            : Finding(.fail, "data directory", "\(path) is not writable", remedy: "Set AURORA_HOME to a directory you can write to.")
    }

    private static func disk() -> Finding {
        let path = CommandContext.data.path
        let bytes = Int(clinux_free_bytes(path))
        guard bytes >= 0 else { return Finding(.warn, "disk", "the free space of \(path) is not known") }
        return bytes >= 4 << 30
            ? Finding(.ok, "disk", "\(MemorySize.format(bytes)) free")
            : Finding(
                .warn, "disk", "\(MemorySize.format(bytes)) free", remedy: "Images need some GiB; free space on the file system of \(path)."
            )
    }

    private static func fileSize() -> Finding {
        let what = "file size"
        let limit = clinux_file_size_limit()
        guard limit >= 0 else { return Finding(.ok, what, "not limited") }
        return Finding(
            limit >= Int64(clamping: StoreConfiguration.fileBytesDefault) ? .ok : .warn, what,
            "files may have \(MemorySize.format(Int(clamping: limit)))",
            remedy: "The store and the disks of groups are larger, with holes; lift the limit (ulimit -f, LimitFSIZE of a service).")
    }

    private static func runtimeDirectory() -> Finding {
        let path = CommandContext.data.runtimePath
        do throws(GroupError) {
            try CommandContext.data.makeRuntime(path)
            try CommandContext.data.checkRuntime()
            return Finding(.ok, "runtime directory", path)
        } catch {
            return Finding(.fail, "runtime directory", error.message, remedy: error.remedy)
        }
    }

    /// Whether what a VMM process takes of the host has a bound beside its guest's memory.
    private static func limits() -> Finding {
        let what = "limits of groups"
        guard let place = OwnProcess.environment[GroupCgroup.variable], !place.isEmpty else {
            return Finding(
                .ok, what, "none but those of whoever starts them: \(GroupCgroup.variable) is not set",
                remedy: "Let it name a cgroup that this user may write: each group then has a limit of memory and threads.")
        }
        return clinux_access("\(place)/cgroup.procs", W_OK) == 0
            ? Finding(.ok, what, "each has a cgroup of its own in \(place)")
            : Finding(
                .fail, what, "\(GroupCgroup.variable) names \(place), which is no cgroup that this user may write",
                remedy: "Make one (mkdir below /sys/fs/cgroup, or systemd-run --user --scope -p Delegate=yes), or unset it.")
    }

    private static func kernel() -> Finding {
        do throws(ImageError) {
            let kernel = try ImageCommand.kernels.current()
            return Finding(.ok, "kernel", "\(kernel.manifest.release) (\(kernel.manifest.version))")
        } catch {
            return Finding(.fail, "kernel", "\(error)")
        }
    }

    private static func baseImage() -> Finding {
        do throws(ImageError) {
            let image = try ImageCommand.images.open(.base)
            return Finding(.ok, "base image", "\(image.manifest.packages.count) packages")
        } catch {
            return Finding(.fail, "base image", "\(error)")
        }
    }
}
