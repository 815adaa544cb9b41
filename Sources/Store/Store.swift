/// A store on a disk: streams of checkpoints, and the images and volumes in them.
///
/// Any number of processes may have it open. How it is created and opened is the ground's business (`Space`); what is in it, that of the
/// streams. It holds no lock by itself.
public final class Store: Sendable {
    let ground: any StoreGround
    /// Nodes of tables, shared by all readers and writers of this process.
    let nodes: NodeSource

    /// Stands a store on what has been opened.
    init(ground: any StoreGround) {
        self.ground = ground
        nodes = NodeSource(disk: ground.disk)
    }
}
