with

source as (

    select * from {{ source('lake', 'input_files') }}

),

renamed as (

    select
        number as file_number,
        path as source_file
    from source

)

select * from renamed
