#if !hasFeature(Embedded)
    public import AgentProtocol
#endif

/// Reads `/proc/sysvipc/{shm,sem,msg}` and the files of a mounted mqueue file system.
public enum InterprocessParser {
    /// The objects of one of the three tables.
    ///
    /// The columns are the same up to the permissions only.
    public static func parseSysV(_ text: [UInt8], _ kind: SysVObject.Kind, limit: Int) -> [SysVObject] {
        var objects: [SysVObject] = []
        var file = TextScanner(text)
        _ = file.nextLine()
        while objects.count < limit, var line = file.nextLine() {
            guard let key = line.number(), let identifier = line.number(), let mode = line.unsigned(8) else { continue }
            var object = SysVObject()
            object.kind = kind
            object.key = Int32(truncatingIfNeeded: key)
            object.identifier = Int32(truncatingIfNeeded: identifier)
            object.mode = UInt32(truncatingIfNeeded: mode & 0o777)
            var fields: [UInt64] = []
            while fields.count < 7, let field = line.unsigned() { fields.append(field) }
            guard fill(&object, fields) else { continue }
            objects.append(object)
        }
        return objects
    }

    private static func fill(_ object: inout SysVObject, _ fields: [UInt64]) -> Bool {
        switch object.kind {
        case .sharedMemory:
            // size cpid lpid nattch uid gid …
            guard fields.count >= 6 else { return false }
            object.bytes = fields[0]
            object.count = fields[3]
            setOwner(&object, creator: fields[1], last: fields[2], user: fields[4], group: fields[5])
        case .semaphores:
            // nsems uid gid …
            guard fields.count >= 3 else { return false }
            object.count = fields[0]
            setOwner(&object, creator: 0, last: 0, user: fields[1], group: fields[2])
        case .messageQueue:
            // cbytes qnum lspid lrpid uid gid …
            guard fields.count >= 6 else { return false }
            object.bytes = fields[0]
            object.count = fields[1]
            setOwner(&object, creator: fields[2], last: fields[3], user: fields[4], group: fields[5])
        }
        return true
    }

    private static func setOwner(_ object: inout SysVObject, creator: UInt64, last: UInt64, user: UInt64, group: UInt64) {
        object.creator = Int32(truncatingIfNeeded: creator)
        object.lastProcess = Int32(truncatingIfNeeded: last)
        object.user = UInt32(truncatingIfNeeded: user)
        object.userGroup = UInt32(truncatingIfNeeded: group)
    }

    /// The bytes queued, from the text of a queue's file: `QSIZE:129 NOTIFY:2 SIGNO:0 NOTIFY_PID:8260`.
    public static func parseQueueBytes(_ text: [UInt8]) -> UInt64 {
        var scanner = TextScanner(text)
        guard scanner.take("QSIZE:") else { return 0 }
        return scanner.unsigned() ?? 0
    }

    /// What a file of `/dev/shm` stands for: glibc keeps semaphores there as `sem.NAME`.
    public static func namedObject(sharedMemoryFile name: Text) -> NamedObject {
        var object = NamedObject()
        let isSemaphore = name.hasPrefix("sem.")
        object.kind = isSemaphore ? .semaphore : .sharedMemory
        object.name = "/" + (isSemaphore ? name.dropFirst(4) : name)
        return object
    }
}
