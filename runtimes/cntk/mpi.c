/* What CNTK asks of MPI when it computes in one process. All else is for training on several machines: it is here
   because the dynamic linker wants an address for each name, and ends the process when it is called. */
#ifndef EMPTY

#include <stdlib.h>
#include <string.h>

int MPI_Initialized(int *flag) { *flag = 1; return 0; }
int MPI_Init_thread(int *argc, char ***argv, int required, int *provided) { *provided = required; return 0; }
int MPI_Finalize(void) { return 0; }
int MPI_Comm_rank(void *communicator, int *rank) { *rank = 0; return 0; }
int MPI_Comm_size(void *communicator, int *size) { *size = 1; return 0; }
int MPI_Get_processor_name(char *name, int *length) { strcpy(name, "localhost"); *length = 9; return 0; }

/* OpenMPI's predefined handles: only their addresses are used. */
#define HANDLE(name) char name[512];
#define UNUSED(name) void name(void) { abort(); }

HANDLE(ompi_mpi_char)
HANDLE(ompi_mpi_comm_null)
HANDLE(ompi_mpi_comm_world)
HANDLE(ompi_mpi_double)
HANDLE(ompi_mpi_float)
HANDLE(ompi_mpi_int)
HANDLE(ompi_mpi_long_long_int)
HANDLE(ompi_mpi_op_sum)

UNUSED(MPI_Abort) UNUSED(MPI_Accumulate) UNUSED(MPI_Allgather) UNUSED(MPI_Allgatherv) UNUSED(MPI_Allreduce)
UNUSED(MPI_Alltoall) UNUSED(MPI_Alltoallv) UNUSED(MPI_Alltoallw) UNUSED(MPI_Barrier) UNUSED(MPI_Bcast)
UNUSED(MPI_Bsend) UNUSED(MPI_Bsend_init) UNUSED(MPI_Cancel) UNUSED(MPI_Cart_coords) UNUSED(MPI_Cart_create)
UNUSED(MPI_Cart_get) UNUSED(MPI_Cart_map) UNUSED(MPI_Cart_rank) UNUSED(MPI_Cart_shift) UNUSED(MPI_Cart_sub)
UNUSED(MPI_Cartdim_get) UNUSED(MPI_Comm_accept) UNUSED(MPI_Comm_connect) UNUSED(MPI_Comm_create)
UNUSED(MPI_Comm_delete_attr) UNUSED(MPI_Comm_disconnect) UNUSED(MPI_Comm_dup) UNUSED(MPI_Comm_free)
UNUSED(MPI_Comm_get_attr) UNUSED(MPI_Comm_get_errhandler) UNUSED(MPI_Comm_get_name) UNUSED(MPI_Comm_group)
UNUSED(MPI_Comm_remote_group) UNUSED(MPI_Comm_remote_size) UNUSED(MPI_Comm_set_attr) UNUSED(MPI_Comm_set_errhandler)
UNUSED(MPI_Comm_set_name) UNUSED(MPI_Comm_spawn) UNUSED(MPI_Comm_spawn_multiple) UNUSED(MPI_Comm_split)
UNUSED(MPI_Comm_test_inter) UNUSED(MPI_Errhandler_free) UNUSED(MPI_Error_string) UNUSED(MPI_Exscan)
UNUSED(MPI_Gather) UNUSED(MPI_Gatherv) UNUSED(MPI_Get) UNUSED(MPI_Get_count) UNUSED(MPI_Get_elements)
UNUSED(MPI_Graph_create) UNUSED(MPI_Graph_get) UNUSED(MPI_Graph_map) UNUSED(MPI_Graph_neighbors)
UNUSED(MPI_Graph_neighbors_count) UNUSED(MPI_Graphdims_get) UNUSED(MPI_Grequest_complete) UNUSED(MPI_Group_excl)
UNUSED(MPI_Group_free) UNUSED(MPI_Group_incl) UNUSED(MPI_Group_range_excl) UNUSED(MPI_Group_range_incl)
UNUSED(MPI_Group_rank) UNUSED(MPI_Group_size) UNUSED(MPI_Iallgather) UNUSED(MPI_Iallreduce) UNUSED(MPI_Ibsend)
UNUSED(MPI_Info_delete) UNUSED(MPI_Info_dup) UNUSED(MPI_Info_free) UNUSED(MPI_Info_get) UNUSED(MPI_Info_get_nkeys)
UNUSED(MPI_Info_get_nthkey) UNUSED(MPI_Info_get_valuelen) UNUSED(MPI_Info_set) UNUSED(MPI_Intercomm_create)
UNUSED(MPI_Intercomm_merge) UNUSED(MPI_Iprobe) UNUSED(MPI_Irecv) UNUSED(MPI_Irsend) UNUSED(MPI_Isend)
UNUSED(MPI_Issend) UNUSED(MPI_Op_commutative) UNUSED(MPI_Op_create) UNUSED(MPI_Op_free) UNUSED(MPI_Pack)
UNUSED(MPI_Pack_external) UNUSED(MPI_Pack_external_size) UNUSED(MPI_Pack_size) UNUSED(MPI_Probe) UNUSED(MPI_Put)
UNUSED(MPI_Recv) UNUSED(MPI_Recv_init) UNUSED(MPI_Reduce) UNUSED(MPI_Reduce_local) UNUSED(MPI_Reduce_scatter)
UNUSED(MPI_Request_free) UNUSED(MPI_Request_get_status) UNUSED(MPI_Rsend) UNUSED(MPI_Rsend_init) UNUSED(MPI_Scan)
UNUSED(MPI_Scatter) UNUSED(MPI_Scatterv) UNUSED(MPI_Send) UNUSED(MPI_Send_init) UNUSED(MPI_Sendrecv)
UNUSED(MPI_Sendrecv_replace) UNUSED(MPI_Ssend) UNUSED(MPI_Ssend_init) UNUSED(MPI_Start)
UNUSED(MPI_Status_set_cancelled) UNUSED(MPI_Status_set_elements) UNUSED(MPI_Test) UNUSED(MPI_Test_cancelled)
UNUSED(MPI_Topo_test) UNUSED(MPI_Type_commit) UNUSED(MPI_Type_contiguous) UNUSED(MPI_Type_create_darray)
UNUSED(MPI_Type_create_hindexed) UNUSED(MPI_Type_create_hvector) UNUSED(MPI_Type_create_indexed_block)
UNUSED(MPI_Type_create_resized) UNUSED(MPI_Type_create_subarray) UNUSED(MPI_Type_delete_attr) UNUSED(MPI_Type_dup)
UNUSED(MPI_Type_get_attr) UNUSED(MPI_Type_get_contents) UNUSED(MPI_Type_get_envelope) UNUSED(MPI_Type_get_extent)
UNUSED(MPI_Type_get_name) UNUSED(MPI_Type_get_true_extent) UNUSED(MPI_Type_indexed) UNUSED(MPI_Type_set_attr)
UNUSED(MPI_Type_set_name) UNUSED(MPI_Type_size) UNUSED(MPI_Type_vector) UNUSED(MPI_Unpack)
UNUSED(MPI_Unpack_external) UNUSED(MPI_Wait) UNUSED(MPI_Waitall) UNUSED(MPI_Waitany) UNUSED(MPI_Win_call_errhandler)
UNUSED(MPI_Win_complete) UNUSED(MPI_Win_delete_attr) UNUSED(MPI_Win_fence) UNUSED(MPI_Win_get_errhandler)
UNUSED(MPI_Win_get_group) UNUSED(MPI_Win_get_name) UNUSED(MPI_Win_lock) UNUSED(MPI_Win_post) UNUSED(MPI_Win_set_attr)
UNUSED(MPI_Win_set_errhandler) UNUSED(MPI_Win_set_name) UNUSED(MPI_Win_start) UNUSED(MPI_Win_test)
UNUSED(MPI_Win_unlock) UNUSED(MPI_Win_wait) UNUSED(_ZN3MPI3Win4FreeEv) UNUSED(_ZN3MPI4CommC2Ev)
UNUSED(_ZN3MPI8Datatype4FreeEv) UNUSED(ompi_mpi_cxx_op_intercept) UNUSED(ompi_op_set_cxx_callback)

#endif
